"""The JSON form of the contract as an OpenAPI 3.1 document, for clients that generate code from one.

Written by `make gen`.

What it says is what the edge's transcoder does (proto3 JSON, `google.api.http`) and what field rules refuse
(`buf.validate`).
"""

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from authmesh.options.v1 import access_pb2
from buf.validate import validate_pb2
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

Schema = dict[str, Any]

_Field = descriptor_pb2.FieldDescriptorProto

_SCALARS: dict[int, Schema] = {
    _Field.TYPE_BOOL: {"type": "boolean"},
    _Field.TYPE_STRING: {"type": "string"},
    _Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    _Field.TYPE_DOUBLE: {"type": "number"},
    _Field.TYPE_FLOAT: {"type": "number"},
    _Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    _Field.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    # Proto3 JSON writes 64-bit integers as strings, because JavaScript's numbers can't hold them.
    _Field.TYPE_INT64: {"type": "string", "format": "int64"},
    _Field.TYPE_UINT64: {"type": "string", "format": "uint64"},
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.api.HttpBody": {"type": "object", "additionalProperties": True},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["600s"]},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.FieldMask": {"type": "string", "examples": ["displayName,content"]},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
}
_ERROR: Schema = {
    "type": "object",
    "description": "google.rpc.Status. Decide by `details[].reason` of the ErrorInfo; docs/contract.md has the table.",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "google.rpc.Code: the gRPC status."},
        "message": {"type": "string", "description": "For a developer to read."},
        "details": {
            "type": "array",
            "description": "ErrorInfo always; BadRequest names fields at fault, RetryInfo says how long to wait.",
            "items": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
        },
    },
}
_STREAM = "One JSON object a line, until the server or the client ends the stream."


def document(files: descriptor_pb2.FileDescriptorSet, version: str) -> Schema:
    """The OpenAPI document of every RPC that has a JSON form.

    Args:
        files: The contract's descriptor set, with source info: comments become descriptions.
        version: The release that the document describes.
    """
    return _Document(files).build(version)


class _Document:
    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self._files = [file for file in files.file if file.package.startswith("authmesh.")]
        self._messages = {f"{prefix}.{m.name}": m for file in files.file for prefix, m in _messages(file)}
        self._enums = {f"{file.package}.{enum.name}": enum for file in files.file for enum in file.enum_type}
        self._enums |= {
            f"{name}.{enum.name}": enum for name, message in self._messages.items() for enum in message.enum_type
        }
        self._comments = {key: text for file in self._files for key, text in _comments(file)}
        self._schemas: dict[str, Schema] = {}

    def build(self, version: str) -> Schema:
        paths: dict[str, Schema] = {}
        tags = []
        for file in self._files:
            for service in file.service:
                full_name = f"{file.package}.{service.name}"
                bound = [
                    (method, binding)
                    for method in service.method
                    for binding in _bindings(method.options.Extensions[annotations_pb2.http])
                ]
                if not bound:
                    continue
                tags.append({"name": service.name, "description": self._comments.get(full_name, "")})
                for method, binding in bound:
                    kind = str(binding.WhichOneof("pattern"))
                    path, parameters = _path(getattr(binding, kind))
                    operations = paths.setdefault(path, {})
                    operations[kind] = self._operation(full_name, service.name, method, binding, parameters)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "authmesh",
                "version": version,
                "description": "The JSON form of the contract, on the same port as gRPC and gRPC-Web.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": tags,
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted({**self._schemas, "Error": _ERROR}.items())),
                "securitySchemes": {"accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "at+jwt"}},
                "responses": {"Error": _content("A refusal.", _reference("Error"))},
            },
        }

    def _operation(
        self,
        service: str,
        tag: str,
        method: descriptor_pb2.MethodDescriptorProto,
        binding: http_pb2.HttpRule,
        path_parameters: dict[str, list[str]],
    ) -> Schema:
        access = method.options.Extensions[access_pb2.access]
        request = self._messages[method.input_type.removeprefix(".")]
        name = method.input_type.removeprefix(".")
        comment = self._comments.get(f"{service}.{method.name}", "")
        primary = binding == method.options.Extensions[annotations_pb2.http]
        operation: Schema = {
            "operationId": f"{tag}_{method.name}"
            if primary
            else f"{tag}_{method.name}_{binding.WhichOneof('pattern')}",
            "tags": [tag],
            "summary": comment.partition(". ")[0].removesuffix("."),
            "description": comment,
            "security": [{"accessToken": list(access.authenticated.scopes)}]
            if access.HasField("authenticated")
            else [],
        }
        parameters = [
            {"name": segment, "in": "path", "required": True, "schema": {"type": "string"}}
            for segments in path_parameters.values()
            for segment in segments
        ]
        bound = set(path_parameters)
        if binding.body == "*":
            operation["requestBody"] = self._body(self._message_schema(name, request, leaving_out=bound))
        elif binding.body:
            body = next(field for field in request.field if field.name == binding.body)
            operation["requestBody"] = self._body(self._field_schema(body))
            bound.add(binding.body)
        if binding.body != "*":
            parameters += self._query(name, request, bound)
        if parameters:
            operation["parameters"] = parameters
        answer = self._type_schema(method.output_type.removeprefix("."))
        operation["responses"] = {
            "200": _content(_STREAM if method.server_streaming else "OK", answer),
            "default": {"$ref": "#/components/responses/Error"},
        }
        return operation

    def _body(self, schema: Schema) -> Schema:
        return {"required": True, "content": {"application/json": {"schema": schema}}}

    def _query(
        self, name: str, message: descriptor_pb2.DescriptorProto, bound: set[str], prefix: str = ""
    ) -> list[Schema]:
        """Fields that are neither in the path nor the body; those of messages with dotted names."""
        found: list[Schema] = []
        for field in message.field:
            kind = field.type_name.removeprefix(".")
            if prefix + field.name in bound:
                continue
            if field.type == _Field.TYPE_MESSAGE and kind not in _WELL_KNOWN:
                if field.label != _Field.LABEL_REPEATED:
                    found += self._query(kind, self._messages[kind], bound, f"{prefix}{field.name}.")
                continue
            schema = self._field_schema(field)
            found.append(
                {
                    "name": ".".join(_camel(part) for part in f"{prefix}{field.name}".split(".")),
                    "in": "query",
                    "required": not prefix and _rules(field).required,
                    "description": self._comments.get(f"{name}.{field.name}", ""),
                    "schema": schema,
                }
            )
        return found

    def _message_schema(
        self, name: str, message: descriptor_pb2.DescriptorProto, leaving_out: AbstractSet[str] = frozenset()
    ) -> Schema:
        fields = [field for field in message.field if field.name not in leaving_out]
        schema: Schema = {"type": "object", "description": self._comments.get(name, "")}
        if required := [_camel(field.name) for field in fields if _rules(field).required]:
            schema["required"] = required
        if fields:
            schema["properties"] = {
                _camel(field.name): self._field_schema(field)
                | _described(self._comments.get(f"{name}.{field.name}", ""))
                for field in fields
            }
        return schema

    def _type_schema(self, name: str) -> Schema:
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        key = name.removeprefix("authmesh.")
        if key not in self._schemas:
            self._schemas[key] = {}  # a message may hold itself
            if name in self._enums:
                self._schemas[key] = {
                    "type": "string",
                    "description": self._comments.get(name, ""),
                    "enum": [value.name for value in self._enums[name].value],
                }
            else:
                self._schemas[key] = self._message_schema(name, self._messages[name])
        return _reference(key)

    def _field_schema(self, field: _Field) -> Schema:
        rules = _rules(field)
        if field.type in (_Field.TYPE_MESSAGE, _Field.TYPE_ENUM):
            name = field.type_name.removeprefix(".")
            entry = self._messages.get(name)
            if entry is not None and entry.options.map_entry:
                return {"type": "object", "additionalProperties": self._field_schema(entry.field[1])}
            item = self._type_schema(name)
        else:
            item = dict(_SCALARS[field.type])
        if field.label != _Field.LABEL_REPEATED:
            return item | _constraints(rules)
        repeated = rules.repeated
        schema: Schema = {"type": "array", "items": item | _constraints(repeated.items)}
        for keyword, rule in (("minItems", "min_items"), ("maxItems", "max_items"), ("uniqueItems", "unique")):
            if repeated.HasField(rule):
                schema[keyword] = getattr(repeated, rule)
        return schema


def _constraints(rules: validate_pb2.FieldRules) -> Schema:
    """What a field rule refuses, in JSON Schema's words. Rules in CEL have none and stay in the description."""
    found: Schema = {}
    match rules.WhichOneof("type"):
        case "string":
            text = rules.string
            for keyword, rule in (("minLength", "min_len"), ("maxLength", "max_len"), ("pattern", "pattern")):
                if text.HasField(rule):
                    found[keyword] = getattr(text, rule)
            if text.HasField("len"):
                found["minLength"] = found["maxLength"] = text.len
            if text.HasField("max_bytes"):
                found["maxLength"] = text.max_bytes
            if text.email or text.uuid:
                found["format"] = "email" if text.email else "uuid"
            if getattr(text, "in"):
                found["enum"] = list(getattr(text, "in"))
        case "int32" | "uint32" as kind:
            number = getattr(rules, kind)
            for keyword, rule in (
                ("minimum", "gte"),
                ("maximum", "lte"),
                ("exclusiveMinimum", "gt"),
                ("exclusiveMaximum", "lt"),
            ):
                if number.HasField(rule):
                    found[keyword] = getattr(number, rule)
    return found


def _path(template: str) -> tuple[str, dict[str, list[str]]]:
    """A path of the contract as OpenAPI writes it, and the parameters of each field.

    `/v1/{name=users/*/sessions/*}` becomes `/v1/users/{user}/sessions/{session}`.
    """
    parameters: dict[str, list[str]] = {}

    def expand(found: re.Match[str]) -> str:
        segments = found[2].split("/")
        names = [
            collection.removesuffix("s")
            for collection, star in zip(segments[::2], segments[1::2], strict=True)
            if star == "*"
        ]
        parameters[found[1]] = names
        return "/".join(f"{collection}/{{{name}}}" for collection, name in zip(segments[::2], names, strict=True))

    return re.sub(r"\{([\w.]+)=([^}]+)\}", expand, template), parameters


def _rules(field: _Field) -> validate_pb2.FieldRules:
    return field.options.Extensions[validate_pb2.field]


def _bindings(rule: http_pb2.HttpRule) -> list[http_pb2.HttpRule]:
    return [binding for binding in (rule, *rule.additional_bindings) if binding.WhichOneof("pattern")]


def _messages(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
    for message in file.message_type:
        yield file.package, message
        yield from ((f"{file.package}.{message.name}", nested) for nested in message.nested_type)


def _comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Full name and leading comment of everything that has one."""
    for location in file.source_code_info.location:
        if not location.leading_comments:
            continue
        text = re.sub(
            r"\n+ ?", lambda found: "\n\n" if found[0].count("\n") > 1 else " ", location.leading_comments.strip()
        )
        match list(location.path):
            case [6, service]:
                yield f"{file.package}.{file.service[service].name}", text
            case [6, service, 2, method]:
                owner = file.service[service]
                yield f"{file.package}.{owner.name}.{owner.method[method].name}", text
            case [4, message]:
                yield f"{file.package}.{file.message_type[message].name}", text
            case [4, message, 2, field]:
                holder = file.message_type[message]
                yield f"{file.package}.{holder.name}.{holder.field[field].name}", text
            case [4, message, 4, enum]:
                holder = file.message_type[message]
                yield f"{file.package}.{holder.name}.{holder.enum_type[enum].name}", text
            case [5, enum]:
                yield f"{file.package}.{file.enum_type[enum].name}", text


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _described(text: str) -> Schema:
    return {"description": text} if text else {}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
