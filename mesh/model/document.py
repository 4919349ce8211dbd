"""YAML files of one shape, read strictly: every fault is told with file, line and column, all of them at once.

YAML as people write it by hand: one document, keys that are words, each of them once. Anchors and aliases are taken,
within bounds.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

SIZE_LIMIT = 1024 * 1024
"""Bytes of a file."""
VALUE_LIMIT = 100_000
"""Values of a file, with those that aliases repeat."""
DEPTH_LIMIT = 50
FAULT_LIMIT = 50
"""Faults that are told of one file."""

Path_ = tuple[int | str, ...]
"""Keys and indexes from the top to a value."""
Model = TypeVar("Model", bound=BaseModel)
_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
_VALUE_ERROR = "Value error, "
_QUOTED = re.compile("'([^']+)'")


class DocumentError(ValueError):
    """A file is not what it should be. The message names the file and every place at fault, one a line."""


class DoesNotFitError(ValueError):
    """What `cross_faults` finds, in a model that was not read from a file."""


class StrictModel(BaseModel):
    """Strict and frozen; keys in YAML are lowerCamelCase, as in App Mesh's resources."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)

    @classmethod
    def cross_faults(cls, raw: Any) -> Iterator[tuple[Path_, str]]:
        """What does not fit together in a document, whatever else is wrong with it: places and what to do."""
        yield from ()


@dataclass(slots=True)
class Document:
    """A document, and where each of its values stands."""

    value: Any = None
    marks: dict[Path_, yaml.Mark] = field(default_factory=dict)
    faults: list[tuple[yaml.Mark, str]] = field(default_factory=list)
    """What can't be a value: it is None there, or missing."""

    def place(self, path: Path_) -> str:
        """Line and column of a value, or of what should have held it: `12:3`."""
        mark = _mark(self, path)
        return f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"


def read_model(file: Path, model: type[Model]) -> Model:
    """Reads a YAML file of one shape.

    Raises:
        DocumentError: it can't be read, is not YAML, or has another shape.
    """
    document = _read(file)
    found: list[tuple[yaml.Mark | None, str, str]] = [(mark, "", fault) for mark, fault in document.faults]
    read: Model | None = None
    try:
        # Strict models take tuples for tuples; YAML has only lists.
        strict = model.model_config.get("strict", False)
        read = model.model_validate(_tuples(document.value) if strict else document.value)
    except ValidationError as error:
        told_ = _told(error, model, with_crossed=False)
        found += [(_mark(document, path), _shown(path), text) for path, text in told_]
    if issubclass(model, StrictModel):
        crossed = model.cross_faults(document.value)
        found += [(_mark(document, path), _shown(path), text) for path, text in crossed]
    if found or read is None:
        raise DocumentError("\n".join(_lines(file, found)))
    return read


def read_documents(file: Path) -> list[Document]:
    """Reads a file of YAML documents, or of JSON, within the same bounds. What is empty is left out.

    Raises:
        DocumentError: it can't be read, or is not YAML.
    """
    text = _text(file)
    try:
        roots = [root for root in yaml.compose_all(text, Loader=yaml.SafeLoader) if root is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(file, error) from None
    return [_built(file, root) for root in roots]


def faults(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Path_, str]]:
    """What is wrong with a value that is not a `model`: places, and what to do."""
    return _told(error, model)


def shown(path: Path_) -> str:
    """A place as people write it: `listeners[0].tls`."""
    return _shown(path)


def told(file: Path, error: ValidationError) -> str:
    """What is wrong with what was put together from a file, a line for each place."""
    return "\n".join(f"{file}: {_shown(path)}: {text}" for path, text in _told(error, None))


def unknown(kind: str, name: object, known: Sequence[str]) -> str:
    """What is said of a name that refers to nothing."""
    near = get_close_matches(str(name), known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"there is no {kind} {name}: {hint}"


def _lines(file: Path, found: Sequence[tuple[yaml.Mark | None, str, str]]) -> Iterator[str]:
    def place(item: tuple[yaml.Mark | None, str, str]) -> tuple[int, int]:
        return (item[0].line, item[0].column) if item[0] else (0, 0)

    for mark, path, text in sorted(found, key=place)[:FAULT_LIMIT]:
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        yield f"{where}: {path}: {text}" if path else f"{where}: {text}"
    if len(found) > FAULT_LIMIT:
        yield f"{file}: and {len(found) - FAULT_LIMIT} more"


def _read(file: Path) -> Document:
    try:
        root = yaml.compose(_text(file), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(file, error) from None
    if root is None:
        raise DocumentError(f"{file}: it is empty")
    return _built(file, root)


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > SIZE_LIMIT:
            raise DocumentError(f"{file}: it is larger than {SIZE_LIMIT // 1024} KiB")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DocumentError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"{file}: it is not text in UTF-8") from error


def _not_yaml(file: Path, error: Exception) -> DocumentError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        return DocumentError(f"{where}: {_yaml_fault(error)}")
    cause = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
    return DocumentError(f"{file}: {cause}")


def _built(file: Path, root: yaml.Node) -> Document:
    document = Document()
    try:
        document.value = _Builder(document).build(root, ())
    except _TooMuchError as error:
        raise DocumentError(f"{file}:{error.mark.line + 1}:{error.mark.column + 1}: {error}") from None
    return document


def _yaml_fault(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it is not YAML"
    if "'\\t'" in problem:
        return "a tab can't indent: use spaces"
    if "expected a single document" in f"{error.context} {problem}":
        return "a second document begins here: the file has one"
    return f"{error.context}: {problem}" if error.context else problem


class _TooMuchError(Exception):
    def __init__(self, mark: yaml.Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark


class _Builder:
    """Makes plain values of YAML's nodes, and notes where they stand."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._loader = yaml.SafeLoader("")
        self._values = 0
        self._open: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: Path_) -> Any:
        self._values += 1
        if self._values > VALUE_LIMIT:
            raise _TooMuchError(node.start_mark, f"with its aliases it has more than {VALUE_LIMIT:,} values")
        if len(self._open) >= DEPTH_LIMIT:
            raise _TooMuchError(node.start_mark, f"it is nested deeper than {DEPTH_LIMIT}")
        if any(node is outer for outer in self._open):
            raise _TooMuchError(node.start_mark, "an alias holds itself")
        self._document.marks.setdefault(path, node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
                return [self.build(item, (*path, number)) for number, item in enumerate(node.value)]
        finally:
            self._open.pop()
        self._fault(node, f"{node.tag} is not used here: write a plain value")
        return None

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag not in _SCALARS:
            if node.tag == "tag:yaml.org,2002:timestamp":
                return node.value
            self._fault(node, f"{node.tag} is not used here: write a plain value")
            return None
        return self._loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, yaml.Mark] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                self._fault(key_node, "a key is a word: put it in quotes if it looks like something else")
                continue
            key = key_node.value
            if key in first:
                self._fault(key_node, f"{key} is there twice: first in line {first[key].line + 1}")
                continue
            first[key] = key_node.start_mark
            self._document.marks[(*path, key)] = key_node.start_mark
            found[key] = self.build(value_node, (*path, key))
        return found

    def _fault(self, node: yaml.Node, text: str) -> None:
        self._document.faults.append((node.start_mark, text))


def _told(
    error: ValidationError, model: type[BaseModel] | None, *, with_crossed: bool = True
) -> Iterator[tuple[Path_, str]]:
    for item in error.errors():
        # A key that is not one is told at its value.
        path: Path_ = tuple(part for part in item["loc"] if part != "[key]")
        if not with_crossed and isinstance(item.get("ctx", {}).get("error"), DoesNotFitError):
            continue
        if item["type"] == "extra_forbidden":
            allowed = _keys_at(model, path[:-1])
            near = get_close_matches(str(path[-1]), allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(allowed)}" if allowed else "take it out"
            yield path, f"there is no such key: {hint}"
        elif item["type"] == "missing":
            yield path[:-1], f"{path[-1]} is missing"
        elif item["type"] == "literal_error":
            near = get_close_matches(str(item.get("input")), _QUOTED.findall(item["msg"]), 1)
            yield path, f"{item['msg']}{f': did you mean {near[0]}?' if near else ''}"
        else:
            yield path, str(item["msg"]).removeprefix(_VALUE_ERROR)


def _keys_at(model: type[BaseModel] | None, path: Path_) -> list[str]:
    """The keys that a mapping at that place may have."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            current = next((one for one in get_args(current) if one is not Ellipsis), None)
        elif isinstance(current, type) and issubclass(current, BaseModel):
            fields = {one.alias or name: one for name, one in current.model_fields.items()}
            current = _plain(fields[part].annotation) if part in fields else None
        else:
            return []
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return []
    return [one.alias or name for name, one in current.model_fields.items()]


def _plain(annotation: Any) -> Any:
    """The model, or the tuple of models, of an annotation that may say None as well."""
    if get_origin(annotation) in (Union, UnionType):
        return next((_plain(one) for one in get_args(annotation) if one is not type(None)), None)
    return None if get_origin(annotation) is Literal else annotation


def _mark(document: Document, path: Path_) -> yaml.Mark | None:
    """Of the value, or of what should have held it."""
    for length in range(len(path), -1, -1):
        if mark := document.marks.get(path[:length]):
            return mark
    return None


def _shown(path: Path_) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "the file"


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
