"""`make gen`: protos/ -> gen/, and the checks that a generator can make.

Writes messages, typed stubs and async service stubs under `gen/authmesh`; one descriptor set, `gen/authmesh/contract.binpb`, for Envoy's transcoder
and for the access rules; `gen/authmesh/openapi.json`; and the table in `docs/access.md`. Refuses an RPC that does not say who may call it.
"""

import importlib.resources
import json
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).parent
GEN = PROTOS.parent / "gen"
ACCESS_TABLE = PROTOS.parent / "docs" / "access.md"
# Envoy writes error details as JSON only if it knows their types, though no message of ours mentions them.
ALSO_DESCRIBED = ["google/rpc/error_details.proto", "google/rpc/status.proto"]
WELL_KNOWN = str(importlib.resources.files("grpc_tools") / "_proto")


def compile_protos(output: Path) -> None:
    """Runs protoc over every file of the contract. Exits with protoc's own message when one is wrong."""
    contract = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "authmesh").rglob("*.proto"))
    includes = [f"--proto_path={PROTOS}", f"--proto_path={PROTOS / 'third_party'}", f"--proto_path={WELL_KNOWN}"]
    python = [f"--python_out={output}", f"--grpc_python_out={output}", f"--mypy_out=quiet:{output}", f"--mypy_grpc_out=quiet,only_async:{output}"]
    # The options of the contract carry these rules, so reading the options needs their Python module; no wheel brings one.
    rules = ["buf/validate/validate.proto"]
    # protoc looks for its plugins on the path; ours are beside the interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    descriptors = output / "authmesh" / "contract.binpb"
    descriptors.parent.mkdir()
    for arguments in (
        [*python, *contract],
        [f"--python_out={output}", f"--mypy_out=quiet:{output}", *rules],
        ["--include_imports", "--include_source_info", f"--descriptor_set_out={descriptors}", *contract, *ALSO_DESCRIBED],
    ):
        if protoc.main(["protoc", *includes, *arguments]) != 0:
            sys.exit(1)


def rpcs_without_access_rule(output: Path) -> list[str]:
    """Full names of the methods that do not declare `(authmesh.options.v1.access)`."""
    sys.path.insert(0, str(output))
    from authmesh.options.v1 import access_pb2

    files = descriptor_pb2.FileDescriptorSet.FromString((output / "authmesh" / "contract.binpb").read_bytes())
    return [
        f"{file.package}.{service.name}/{method.name}"
        for file in files.file
        for service in file.service
        for method in service.method
        if not method.options.Extensions[access_pb2.access].WhichOneof("kind")
    ]


def access_table(output: Path) -> str:
    """docs/access.md: every RPC with its JSON form and its rule."""
    from authmesh.options.v1 import access_pb2
    from google.api import annotations_pb2

    def rule(access: access_pb2.AccessRule) -> str:
        match access.WhichOneof("kind"):
            case "public":
                return "public"
            case "internal":
                return "internal: " + ", ".join("every node" if caller == "*" else caller for caller in access.internal.callers)
        demands = access.authenticated
        said = [" ".join(f"`{scope}`" for scope in demands.scopes)]
        said += [f"for others {' '.join(f'`{scope}`' for scope in demands.others.scopes)}"] if demands.HasField("others") else []
        said += [f"role {' or '.join(demands.roles)}"] if demands.roles else []
        said += [f"sign-in within {demands.recent_sign_in.seconds} s"] if demands.HasField("recent_sign_in") else []
        said += [f"revocations known to within {demands.max_staleness.seconds} s"] if demands.HasField("max_staleness") else []
        return "; ".join(said)

    def json_form(method: descriptor_pb2.MethodDescriptorProto) -> str:
        http = method.options.Extensions[annotations_pb2.http]
        forms = [binding for binding in (http, *http.additional_bindings) if binding.WhichOneof("pattern")]
        return ", ".join(f"`{form.WhichOneof('pattern').upper()} {getattr(form, form.WhichOneof('pattern'))}`" for form in forms)

    files = descriptor_pb2.FileDescriptorSet.FromString((output / "authmesh" / "contract.binpb").read_bytes())
    lines = [
        "# Who may call what",
        "",
        "Written by `make gen` from the access rules in `protos/`. Revocations are known to within 30 s where nothing else is said.",
    ]
    for file in files.file:
        for service in file.service:
            lines += ["", f"## {file.package}.{service.name}", "", "| RPC | JSON | Access |", "|---|---|---|"]
            lines += [f"| {method.name} | {json_form(method)} | {rule(method.options.Extensions[access_pb2.access])} |" for method in service.method]
    return "\n".join(lines) + "\n"


def write_openapi(output: Path) -> None:
    """Describes the JSON form of the contract in `authmesh/openapi.json`."""
    from openapi import document

    files = descriptor_pb2.FileDescriptorSet.FromString((output / "authmesh" / "contract.binpb").read_bytes())
    version = tomllib.loads((PROTOS.parent / "pyproject.toml").read_text())["project"]["version"]
    (output / "authmesh" / "openapi.json").write_text(json.dumps(document(files, version), indent=1, ensure_ascii=False) + "\n")


def drift(output: Path) -> list[str]:
    """The files of gen/ that are not what the protos say."""
    fresh, committed = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        for root in (output, GEN)
    )
    return sorted(str(path) for path in fresh.keys() | committed.keys() if fresh.get(path) != committed.get(path))


def main() -> None:
    """Generates into a folder aside and puts it in place only when everything is right. With `--check`, only compares."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        compile_protos(output)
        if missing := rpcs_without_access_rule(output):
            sys.exit("\n".join(f"make gen: {rpc} has no access rule: add option (authmesh.options.v1.access)" for rpc in missing))
        write_openapi(output)
        if "--check" in sys.argv:
            stale = [f"gen/{path}" for path in drift(output)] + (["docs/access.md"] if ACCESS_TABLE.read_text() != access_table(output) else [])
            sys.exit("\n".join(f"{path} differs from protos/: run `make gen` and commit it" for path in stale) or 0)
        ACCESS_TABLE.write_text(access_table(output))
        shutil.rmtree(GEN, ignore_errors=True)
        shutil.copytree(output, GEN, ignore=shutil.ignore_patterns("__pycache__"))


if __name__ == "__main__":
    main()
