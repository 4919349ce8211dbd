"""A CloudFormation template, read: its parameters, and the resources that it makes with given values of them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

_IMPORTS = "Fn::ImportValue"
RETAINING = ("Retain", "RetainExceptOnCreate", "Snapshot")
"""Deletion policies that leave something behind."""


_BUCKET_NAME = re.compile(r'BucketName: !Sub ("authmesh-[^"]*")')


class TemplateError(Exception):
    """The file is not a template. Says which and why."""


@dataclass(frozen=True, slots=True)
class Template:
    """The document, with short functions (`!Ref`) in their long form."""

    body: Mapping[str, Any]
    source: str | None = None
    """The file's text, which CloudFormation gets as it is: people read its comments in the console."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Reads a file.

        Raises:
            TemplateError: it is missing, or not a template.
        """
        try:
            source = file.read_text(encoding="utf-8")
            body = yaml.load(source, _Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise TemplateError(f"{file} is not a template: {error}".splitlines()[0]) from None
        if not isinstance(body, dict) or not isinstance(body.get("Resources"), dict):
            raise TemplateError(f"{file} is not a template: it has no Resources")
        return cls(body, source)

    @property
    def parameters(self) -> Mapping[str, Mapping[str, Any]]:
        """Parameters by name."""
        return self.body.get("Parameters") or {}

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        """Resources by logical id, whatever their conditions."""
        found: Mapping[str, Mapping[str, Any]] = self.body["Resources"]
        return found

    @property
    def exports(self) -> frozenset[str]:
        """Names that other stacks may import."""
        return frozenset(
            output["Export"]["Name"] for output in (self.body.get("Outputs") or {}).values() if "Export" in output
        )

    @property
    def imports(self) -> frozenset[str]:
        """Names that it imports from other stacks."""
        return frozenset(imported(self.body))

    def missing(self, values: Mapping[str, str]) -> list[str]:
        """Parameters that have neither a value nor a default."""
        return [name for name, one in self.parameters.items() if "Default" not in one and name not in values]

    def made(self, values: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
        """The resources that are made with these values of parameters."""
        given = {name: values.get(name, str(one.get("Default", ""))) for name, one in self.parameters.items()}
        conditions = self.body.get("Conditions") or {}
        return {
            name: resource
            for name, resource in self.resources.items()
            if "Condition" not in resource or _holds(conditions[resource["Condition"]], given, conditions)
        }

    def value(self, found: Any, values: Mapping[str, str]) -> Any:
        """A property with parameters put in: what `Ref` names a parameter is its value, other functions stay."""
        if isinstance(found, dict) and set(found) == {"Ref"} and found["Ref"] in self.parameters:
            name = found["Ref"]
            return values.get(name, str(self.parameters[name].get("Default", "")))
        return found

    def named(self, account: str, region: str) -> "Template":
        """The template with the names of buckets written out.

        CloudFormation adopts what outlived an earlier stack by literal names only.
        """

        def written_out(text: str) -> str:
            return text.replace("${AWS::AccountId}", account).replace("${AWS::Region}", region)

        body = json.loads(json.dumps(self.body))
        for resource in body["Resources"].values():
            name = resource.get("Properties", {}).get("BucketName") if resource["Type"] == "AWS::S3::Bucket" else None
            if isinstance(name, dict):
                resource["Properties"]["BucketName"] = written_out(name["Fn::Sub"])
        source = self.source and _BUCKET_NAME.sub(lambda found: f"BucketName: {written_out(found[1])}", self.source)
        return Template(body, source)

    def text(self) -> str:
        """What CloudFormation gets: the file, or JSON of what was left of it."""
        return self.source if self.source is not None else json.dumps(self.body, separators=(",", ":"))


class _Loader(yaml.CSafeLoader):
    """YAML of CloudFormation: short functions become long ones, and dates stay text."""


def _long_form(loader: yaml.CSafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _holds(condition: Any, values: Mapping[str, str], conditions: Mapping[str, Any]) -> bool:
    """A condition, of the functions that our templates use."""
    ((function, argument),) = condition.items()
    if function == "Condition":
        return _holds(conditions[argument], values, conditions)
    if function == "Fn::Not":
        return not _holds(argument[0], values, conditions)
    if function == "Fn::And":
        return all(_holds(one, values, conditions) for one in argument)
    if function == "Fn::Or":
        return any(_holds(one, values, conditions) for one in argument)
    if function == "Fn::Equals":
        left, right = (_plain(one, values) for one in argument)
        return left == right
    raise TemplateError(f"the condition function {function} is not known")


def _plain(found: Any, values: Mapping[str, str]) -> str:
    if isinstance(found, dict):
        ((function, argument),) = found.items()
        if function == "Ref":
            return values[argument]
        if function == "Fn::Join":
            # Of a list parameter: its values have no commas of their own.
            return _plain(argument[1], values).replace(",", str(argument[0]))
        raise TemplateError(f"{function} in a condition is not known")
    return str(found)


_SUBSTITUTED = re.compile(r"\$\{([A-Za-z0-9:.]+)\}")


def names(found: Any) -> set[str]:
    """What something refers to: logical ids, and names of parameters."""
    found_names: set[str] = set()
    for function, argument in _functions(found):
        if function == "Ref":
            found_names.add(argument)
        elif function == "Fn::GetAtt":
            found_names.add(argument[0])
        elif function == "Fn::Sub":
            text, own = (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])
            found_names |= {name.partition(".")[0] for name in _SUBSTITUTED.findall(text) if name not in own}
    return found_names


def imported(found: Any) -> Iterator[str]:
    """Names of exports that something imports."""
    return (argument for function, argument in _functions(found) if function == _IMPORTS)


def _functions(found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(found, Mapping):
        for name, value in found.items():
            if name == "Ref" or str(name).startswith("Fn::"):
                yield name, value
            yield from _functions(value)
    elif isinstance(found, list):
        for one in found:
            yield from _functions(one)
