"""The JSON Schema of mesh.yaml, by which editors complete and check it as it is written.

`authmesh mesh schema` prints it; `mesh/mesh.schema.json` is the committed copy, which a test holds to the model.
"""

import json

from mesh.model.mesh import Mesh

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema as a file."""
    found = Mesh.model_json_schema(by_alias=True)
    return (
        json.dumps({"$schema": DIALECT} | found | {"title": "mesh.yaml of authmesh"}, indent=2, ensure_ascii=False)
        + "\n"
    )
