"""The stacks of the mesh in AWS, in the order in which they are made. Each is a template in `deploy/aws/`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mesh.cloudformation.template import Template
from mesh.model.mesh import load_mesh

TEMPLATES = Path(__file__).resolve().parents[2] / "deploy" / "aws"
ORDER = (
    "network", "data", "keys", "identity", "events", "functions", "compute", "edge", "observability", "budget",
)  # fmt: skip
"""A stack imports from those before it."""
OPTIONAL = frozenset(("functions",))
"""Left out while its parameters are missing."""
NEEDED = ("data", "keys", "events")
"""Services read outputs of these."""
TAGS = {"project": "authmesh"}
"""Of each stack, and by CloudFormation of each resource that takes tags. Templates say it too: they are deployed by
other tools."""


class StackError(Exception):
    """A stack can't be chosen, or a parameter can't be used. Says which."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack with the values of its parameters."""

    short_name: str
    template: Template
    parameters: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its name in AWS."""
        return f"authmesh-{self.short_name}"


def chosen(
    names: Iterable[str] = (), parameters: Mapping[str, str] | None = None, *, folder: Path = TEMPLATES
) -> list[Stack]:
    """The stacks to work with, in order.

    Args:
        names: Short names (`network`); none for all.
        parameters: Values for the stacks that have such a parameter.
        folder: Where the templates are.

    Raises:
        StackError: a name or a parameter is not known.
        TemplateError: a template can't be read.
    """
    if not folder.is_dir():
        raise StackError(
            f"there are no templates in {folder}: name the folder `deploy/aws` of a checkout (--templates)"
        )
    wanted = [name.removeprefix("authmesh-") for name in names]
    for name in wanted:
        if name not in ORDER:
            raise StackError(f"{name} is not a stack: choose from {', '.join(ORDER)}")
    templates = {name: Template.read(folder / f"{name}.yaml") for name in ORDER}
    known = {parameter for template in templates.values() for parameter in template.parameters}
    # Whose events are taken follows from mesh.yaml.
    given = {"Sources": ",".join(load_mesh().nodes)} | dict(parameters or {})
    for name in given:
        if name not in known:
            near = " or ".join(get_close_matches(name, sorted(known)))
            raise StackError(f"no stack has a parameter {name}" + (f": did you mean {near}?" if near else ""))
    return [
        Stack(name, template, {one: given[one] for one in template.parameters if one in given})
        for name, template in templates.items()
        if name in wanted or not wanted
    ]
