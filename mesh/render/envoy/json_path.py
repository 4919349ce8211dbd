"""Paths of the JSON form (`google.api.http`) in Envoy's words."""

import re

from mesh.render.envoy.resource import Resource

_VARIABLE = re.compile(r"\{[^=}]+(?:=([^}]*))?\}")


def path_match(template: str) -> Resource:
    """The match of a route, or of a rule of jwt_authn, for a path template: `/v1/{name=users/*}:disable`."""
    plain = _VARIABLE.sub(lambda variable: variable[1] or "*", template)
    if "*" not in plain:
        return {"path": plain}
    pattern = re.escape(plain).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    return {"safe_regex": {"regex": pattern}}
