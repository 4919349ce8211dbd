"""The files of a new bounded context, made from templates.

Everything that names a context by hand is written here: its protos, its folder, its tests, and a few lines in the
files that list all contexts. docs/architecture.md ("How to add") has the same list in words.
"""

import re
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from mesh.model.document import DocumentError
from mesh.model.mesh import load_mesh
from mesh.operator.errors import OperatorError

_NAME = re.compile(r"[a-z][a-z0-9]{1,23}")
_TEMPLATES = files("mesh.scaffold") / "templates"
_TAKEN = frozenset({"mesh", "edge", "gen", "options", "errors", "mail", "admin", "operator"})
"""Names that are something else in the mesh, or packages of the contract."""


@dataclass(frozen=True, slots=True)
class NewService:
    """What a new context is called."""

    name: str
    """Of the node, the folder, the package and the collection: `orders`."""
    resource: str
    """Of what it keeps: `order`."""

    @classmethod
    def named(cls, name: str, resource: str | None = None) -> "NewService":
        """The names, checked.

        Args:
            name: The plural, in lower case: `orders`.
            resource: The singular, where leaving the last letters out does not give it.

        Raises:
            OperatorError: a name is not a word, is taken, or needs its singular.
        """
        for word in (name, *([resource] if resource else [])):
            if not _NAME.fullmatch(word):
                raise OperatorError(f"{word} is not a name: use 2 to 24 lower-case letters and digits, a letter first")
        if name in _TAKEN:
            raise OperatorError(f"{name} is a name of the mesh's own: choose another one")
        resource = resource or _singular(name)
        if resource in ("", name):
            raise OperatorError(f"{name} is not a plural: name what it keeps with --resource")
        return cls(name, resource)

    @property
    def title(self) -> str:
        """In prose and in names of classes: `Orders`."""
        return self.name.capitalize()

    def fill(self, template: str) -> str:
        """A template with the names in their places."""
        article = "an" if self.resource[0] in "aeiou" else "a"
        values = {
            "service": self.name,
            "Service": self.title,
            "Collection": self.title,
            "resource": self.resource,
            "Resource": self.resource.capitalize(),
            "a_resource": f"{article} {self.resource}",
            "A_resource": f"{article.capitalize()} {self.resource}",
            "RESOURCE": self.resource.upper(),
            "name_length": str(len(self.name) + 1 + 36),
        }
        return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name.removesuffix("es") if name.endswith(("ches", "shes", "sses", "xes")) else name.removesuffix("s")


def changes(checkout: Path, new: NewService) -> dict[Path, str]:
    """The files that a new context writes and changes, by path within the checkout. Nothing is written.

    Raises:
        OperatorError: this is not a checkout of authmesh, the name is taken, or a file is not as it was released and
            has to be edited by hand.
    """
    if not (checkout / "mesh" / "mesh.yaml").is_file() or not (checkout / "protos" / "authmesh").is_dir():
        raise OperatorError("this is not a checkout of authmesh: go to its top folder, where protos/ and services/ are")
    made = {Path(new.fill(path)): new.fill(_template(template)) for template, path in _NEW_FILES.items()}
    if taken := sorted(str(path) for path in made if (checkout / path).exists()):
        raise OperatorError(f"{new.name} exists already: {', '.join(taken)}")
    for path, edits in _EDITS.items():
        text = (checkout / path).read_text()
        for edit in edits:
            text = edit.apply(text, new, path)
        made[Path(path)] = text
    return made


def write(checkout: Path, files_by_path: dict[Path, str]) -> None:
    """Writes what `changes` gave, if its mesh.yaml is a mesh.

    Raises:
        OperatorError: it is not. Nothing is written.
    """
    with tempfile.TemporaryDirectory() as directory:
        candidate = Path(directory) / "mesh.yaml"
        candidate.write_text(files_by_path[Path("mesh/mesh.yaml")])
        try:
            load_mesh(candidate)
        except DocumentError as error:
            raise OperatorError(f"mesh.yaml was changed, and ours does not fit: {error}") from None
    for path, text in files_by_path.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(text)


def _template(name: str) -> str:
    return (_TEMPLATES / f"{name}.tmpl").read_text()


@dataclass(frozen=True, slots=True)
class _Edit:
    """Lines that go into a file that has them for every context. Their place is one of three."""

    lines: str
    section: str = ""
    """The end of the list below this line of a YAML file."""
    before: str = ""
    """Before the last line like this."""
    after: str = ""
    """After this line and the blank ones that follow it."""

    def apply(self, text: str, new: NewService, path: str) -> str:
        """The file with the lines in it.

        Raises:
            OperatorError: the file has no such place.
        """
        lines = text.splitlines(keepends=True)
        mark = self.section or self.before or self.after
        marks = [number for number, line in enumerate(lines) if line.rstrip("\n") == mark]
        if not marks:
            raise OperatorError(f"{path} was changed: it has no line {mark!r}, before or after which ours would go")
        if self.section:
            at = _end_of_section(lines, marks[0])
        elif self.before:
            at = marks[-1]
        else:
            at = next(number for number in range(marks[0] + 1, len(lines)) if lines[number].strip())
        return "".join([*lines[:at], new.fill(self.lines), *lines[at:]])


def _end_of_section(lines: list[str], head: int) -> int:
    """The line behind the last one that belongs to a key or list of a YAML file."""
    depth = len(lines[head]) - len(lines[head].lstrip())
    end = head + 1
    for number in range(head + 1, len(lines)):
        line = lines[number]
        indent = len(line) - len(line.lstrip())
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if indent < depth or (indent == depth and not line.lstrip().startswith("- ")):
            break
        end = number + 1
    return end


_NEW_FILES = {
    "protos/service.proto": "protos/authmesh/{{service}}/v1/{{resource}}_service.proto",
    "service/__init__.py": "services/{{service}}/__init__.py",
    "service/events.py": "services/{{service}}/events.py",
    "service/main.py": "services/{{service}}/main.py",
    "service/service.py": "services/{{service}}/service.py",
    "service/settings.py": "services/{{service}}/settings.py",
    "service/store.py": "services/{{service}}/store.py",
    "service/use_cases.py": "services/{{service}}/use_cases.py",
    "migrations/0001.py": "services/{{service}}/migrations/versions/0001_{{service}}.py",
    "tests/test_service.py": "tests/integration/services/{{service}}/test_service.py",
}
"""Where each template goes."""

_EVENTS = """\
  // {{resource}}.created: {{a_resource}} was made.
  EVENT_TYPE_{{RESOURCE}}_CREATED = %d;
  // {{resource}}.updated: {{a_resource}} was changed.
  EVENT_TYPE_{{RESOURCE}}_UPDATED = %d;
  // {{resource}}.deleted: {{a_resource}} was deleted.
  EVENT_TYPE_{{RESOURCE}}_DELETED = %d;
"""


@dataclass(frozen=True, slots=True)
class _EventTypes(_Edit):
    """Event types get the next free ten of numbers."""

    def apply(self, text: str, new: NewService, path: str) -> str:
        highest = max(map(int, re.findall(r"^  EVENT_TYPE_\w+ = (\d+)", text, re.MULTILINE)), default=0)
        first = (highest // 10 + 1) * 10
        return _Edit(self.lines % (first, first + 1, first + 2), before=self.before).apply(text, new, path)


@dataclass(frozen=True, slots=True)
class _LikeResource:
    """A stack of AWS gets for the new context what it has for Resource, which has nothing of its own."""

    def apply(self, text: str, new: NewService, path: str) -> str:
        parts = re.findall(r"^  Resource[A-Z]\w+:\n(?:(?:    .*)?\n)+", text, re.MULTILINE)
        sources = re.search(r"^    Default: auth,.*resource.*$", text, re.MULTILINE)
        if not parts and not sources:
            raise OperatorError(f"{path} was changed: it has nothing for Resource, which ours would be like")
        for part in parts:
            text = text.replace(part, part.rstrip("\n") + "\n\n" + self._of(part, new), 1)
        return text.replace(sources[0], f"{sources[0]},{new.name}", 1) if sources else text

    def _of(self, part: str, new: NewService) -> str:
        part = re.sub(r"Resource(?=Events|Role|Pods|Database|Owner| service)|(?<=is |of )Resource\b", new.title, part)
        part = re.sub(r"RESOURCE(?=_OWNER_SECRET)", new.name.upper(), part)
        return re.sub(
            r"(?<=authmesh[-_/.])resource(?![a-z])|(?<=[Aa]ccount: )resource\b|(?<=_SECRET of )resource\b",
            new.name,
            part,
        )


_EDITS: dict[str, tuple[_Edit | _LikeResource, ...]] = {
    "protos/authmesh/audit/v1/audit_event.proto": (_EventTypes(_EVENTS, before="}"),),
    "mesh/mesh.yaml": (
        _Edit("- name: {{service}}\n  listener: *listener\n  backends: [token.authmesh]\n", section="virtualNodes:"),
        _Edit("- {name: {{service}}.authmesh, virtualRouter: {{service}}}\n", section="virtualServices:"),
        _Edit(
            "- name: {{service}}\n"
            "  portMapping: *port\n"
            "  routes:\n"
            "  - name: {{resource}}-service\n"
            "    grpcRoute:\n"
            "      match: {serviceName: authmesh.{{service}}.v1.{{Resource}}Service}\n"
            "      action: {weightedTargets: [{virtualNode: {{service}}, weight: 100}]}\n"
            "      timeout: *timeout\n",
            section="virtualRouters:",
        ),
        _Edit(
            "- name: {{resource}}-service\n"
            "  match: {serviceName: authmesh.{{service}}.v1.{{Resource}}Service}\n"
            "  virtualService: {{service}}.authmesh\n",
            section="gatewayRoutes:",
        ),
    ),
    "services/token/roles.yaml": (_Edit("  - {{service}}:read\n  - {{service}}:write\n", section="default:"),),
    "services/token/clients.yaml": (
        _Edit("      - {{service}}:read\n      - {{service}}:write\n", section="    scopes:"),
    ),
    **{f"deploy/aws/{stack}.yaml": (_LikeResource(),) for stack in ("events", "functions", "keys")},
    "deploy/aws/compute.yaml": (
        _Edit(
            "                  - !ImportValue authmesh-keys-{{Service}}OwnerSecretArn\n"
            "                  - !ImportValue authmesh-keys-{{Service}}DatabaseSecretArn\n",
            before="                  - !ImportValue authmesh-keys-AuditOwnerSecretArn",
        ),
        _LikeResource(),
    ),
    "deploy/kubernetes/overlays/eks/kustomization.yaml": (
        _Edit("- name: {{service}}-settings\n  envs: [{{service}}.env]\n", section="configMapGenerator:"),
    ),
    "README.md": (
        _Edit(
            "| {{service}}.v1.{{Resource}}Service | Create{{Resource}}, Get{{Resource}}, List{{Collection}}, "
            "Update{{Resource}}, Delete{{Resource}} | |\n",
            before="<!-- /status -->",
        ),
    ),
    "CHANGELOG.md": (_Edit("- {{Resource}}Service keeps {{service}}.\n", after="## Unreleased"),),
}
"""What the files that name all contexts get."""
