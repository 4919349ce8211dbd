"""`make gen`: protos/ -> gen/, and the checks that a generator can make.

Writes messages, typed stubs and async service stubs under `gen/authmesh`; one descriptor set,
`gen/authmesh/contract.binpb`, for Envoy's transcoder and for the access rules; `gen/authmesh/openapi.json`; the
reasons of refusals as a Python enum; and the tables in `docs/access.md`, `docs/limits.md` and `docs/contract.md`.
Refuses an RPC that does not say who may call it.
"""

import importlib.resources
import json
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

if TYPE_CHECKING:
    from mesh.contract import Contract, Rpc

PROTOS = Path(__file__).parent
GEN = PROTOS.parent / "gen"
DOCS = PROTOS.parent / "docs"
# Envoy writes error details as JSON only if it knows their types, though no message of ours mentions them.
ALSO_DESCRIBED = ["google/rpc/error_details.proto", "google/rpc/status.proto"]
REASONS = "authmesh/errors/v1/reason.proto"
WITH = {"UNAVAILABLE": " + RetryInfo", "INVALID_ARGUMENT": " + BadRequest"}
"""Details that come with a status."""
TABLE_BEGINS, TABLE_ENDS = "<!-- Written by `make gen`: reasons -->", "<!-- End of what `make gen` writes -->"
WELL_KNOWN = str(importlib.resources.files("grpc_tools") / "_proto")


def compile_protos(output: Path) -> None:
    """Runs protoc over every file of the contract. Exits with protoc's own message when one is wrong."""
    contract = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "authmesh").rglob("*.proto"))
    includes = [f"--proto_path={PROTOS}", f"--proto_path={PROTOS / 'third_party'}", f"--proto_path={WELL_KNOWN}"]
    python = [
        f"--python_out={output}",
        f"--grpc_python_out={output}",
        f"--mypy_out=quiet:{output}",
        f"--mypy_grpc_out=quiet,only_async:{output}",
    ]
    # The options of the contract carry these rules, so reading the options needs their Python module; no wheel brings
    # one.
    rules = ["buf/validate/validate.proto"]
    # protoc looks for its plugins on the path; ours are beside the interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    descriptors = output / "authmesh" / "contract.binpb"
    descriptors.parent.mkdir()
    for arguments in (
        [*python, *contract],
        [f"--python_out={output}", f"--mypy_out=quiet:{output}", *rules],
        [
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={descriptors}",
            *contract,
            *ALSO_DESCRIBED,
        ],
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


def limits_without_token(contract: "Contract") -> list[str]:
    """Paths of the methods that declare a limit for one caller and have none whom a token would name."""
    from authmesh.options.v1 import limit_pb2

    declared = {
        f"/{file.package}.{service.name}/{method.name}"
        for file in descriptor_pb2.FileDescriptorSet.FromString(contract.descriptors).file
        for service in file.service
        for method in service.method
        if method.options.HasExtension(limit_pb2.limit)
    }
    return sorted(path for path in declared if contract.rpcs[path].kind != "authenticated")


def reasons(output: Path) -> list[tuple[str, str, str, str]]:
    """Each reason with its status, what a client does, and what else is to be said."""
    files = descriptor_pb2.FileDescriptorSet.FromString((output / "authmesh" / "contract.binpb").read_bytes())
    # The enum as it was just compiled, and its rules through this environment's own descriptor of their message.
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    options = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.EnumValueOptions"))
    message_factory.GetMessageClassesForFiles([REASONS], pool)
    rule = pool.FindExtensionByName("authmesh.errors.v1.rule")
    found = []
    for value in pool.FindEnumTypeByName("authmesh.errors.v1.Reason").values[1:]:
        said = options.FromString(value.GetOptions().SerializeToString()).Extensions[rule]
        found.append((value.name.removeprefix("REASON_"), said.status, said.action, said.note))
    return found


def write_reasons(output: Path) -> None:
    """`gen/authmesh/errors/v1/reason.py`: what Python code raises, with names that type checkers know."""
    members = "".join(f'    {name} = "{name}"\n' for name, *_ in reasons(output))
    (output / "authmesh" / "errors" / "v1" / "reason.py").write_text(
        '"""Written by `make gen` from protos/authmesh/errors/v1/reason.proto."""\n\nfrom enum import StrEnum\n\n\n'
        'class Reason(StrEnum):\n    """`google.rpc.ErrorInfo.reason`, as clients see it."""\n\n' + members
    )


def reason_table(output: Path) -> str:
    """The table of docs/contract.md."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, status, action, note in reasons(output):
        rows.setdefault((status, action), []).append(f"{name} ({note})" if note else name)
    lines = ["| Status | Reasons | What a client does |", "|---|---|---|"]
    before = ""
    for (status, action), names in rows.items():
        lines.append(f"| {'' if status == before else status + WITH.get(status, '')} | {', '.join(names)} | {action} |")
        before = status
    return "\n".join(line.replace("|  |", "| |") for line in lines)


def contract_page(output: Path) -> str:
    """docs/contract.md with the table of reasons in its place."""
    head, _, rest = (DOCS / "contract.md").read_text().partition(TABLE_BEGINS)
    _, _, tail = rest.partition(TABLE_ENDS)
    return f"{head}{TABLE_BEGINS}\n\n{reason_table(output)}\n\n{TABLE_ENDS}{tail}"


def load_contract(output: Path) -> "Contract":
    """The contract as the mesh reads it, from what was just compiled."""
    from mesh.contract import Contract

    file = output / "authmesh" / "contract.binpb"
    return Contract(file.read_bytes(), file)


def access_table(contract: "Contract") -> str:
    """docs/access.md: every RPC with its JSON form, its rule, and how often one caller may call it."""

    def rule(rpc: "Rpc") -> str:
        match rpc.kind:
            case "public":
                return "public"
            case "internal":
                return "internal: " + ", ".join(
                    "every node" if caller == "*" else caller for caller in rpc.access.internal.callers
                )
        demands = rpc.access.authenticated
        said = [" ".join(f"`{scope}`" for scope in demands.scopes)]
        said += (
            [f"for others {' '.join(f'`{scope}`' for scope in demands.others.scopes)}"]
            if demands.HasField("others")
            else []
        )
        said += [f"role {' or '.join(demands.roles)}"] if demands.roles else []
        said += [f"signed in with {' or '.join(demands.methods)}"] if demands.methods else []
        said += [f"sign-in within {demands.recent_sign_in.seconds} s"] if demands.HasField("recent_sign_in") else []
        said += (
            [f"revocations known to within {demands.max_staleness.seconds} s"]
            if demands.HasField("max_staleness")
            else []
        )
        return "; ".join(said)

    def json_form(rpc: "Rpc") -> str:
        return ", ".join(f"`{form.method} {form.template}`" for form in rpc.http)

    def limit(rpc: "Rpc") -> str:
        return "" if rpc.rate is None else f"{rpc.rate}, {rpc.streams} open" if rpc.server_streaming else str(rpc.rate)

    lines = [
        "# Who may call what",
        "",
        (
            "Written by `make gen` from the rules in `protos/`. Revocations are known to within 30 s "
            "where nothing else is said."
        ),
        "What a call costs stands in [limits.md](limits.md).",
    ]
    for service, rpcs in contract.services.items():
        lines += ["", f"## {service}", "", "| RPC | JSON | Access | Calls of one caller |", "|---|---|---|---|"]
        lines += [f"| {rpc.name} | {json_form(rpc)} | {rule(rpc)} | {limit(rpc)} |" for rpc in rpcs]
    return "\n".join(lines) + "\n"


def limit_table(contract: "Contract") -> str:
    """docs/limits.md: what one caller can make the mesh do, by RPC."""

    def row(rpc: "Rpc") -> str:
        assert rpc.rate is not None
        cost, often = rpc.cost, 1 if rpc.server_streaming else rpc.rate.per_second
        milliseconds = cost.cpu.ToTimedelta().total_seconds() * 1000
        figures = [cost.rows_written, cost.rows_read, cost.bytes, milliseconds, cost.messages]
        calls = f"{rpc.rate}, {rpc.streams} open" if rpc.server_streaming else str(rpc.rate)
        each = " | ".join(f"{figure:,.4g}" if figure < 1000 else f"{figure:,.0f}" for figure in figures)
        second = " | ".join(
            f"{figure * often:,.3g}" if figure * often < 1000 else f"{figure * often:,.0f}" for figure in figures
        )
        return f"| {rpc.name} | {calls} | {each} | {second} |"

    lines = [
        "# What one caller can make the mesh do",
        "",
        (
            "Written by `make gen` from the limits in `protos/` (`authmesh.options.v1.Limit`). A caller "
            "is a person, or a client"
        ),
        "with a token of its own. Each process counts for itself.",
        "",
        (
            "Costs are the most that one call does; of a stream, the most that those of one caller do "
            "in a second. Written and"
        ),
        (
            "read are rows, CPU includes that of the database, messages are events, letters, commands "
            "and questions to other"
        ),
        (
            "services. The last columns are what that comes to in a second, in the long run. A method "
            "without figures is not"
        ),
        "built yet.",
        "",
        (
            "Not in it is what comes later: an event or command is changed and deleted once it was "
            "sent, a change is announced"
        ),
        (
            "to those who see the resource (a thousand people in a second for one owner), and a session "
            "that is ended was made"
        ),
        "by a sign-in.",
        "",
        (
            "`tests/integration/services/*/test_costs.py` make the calls and count, "
            "`tests/unit/mesh/test_limits.py` bounds the"
        ),
        "sums.",
    ]
    heads = (
        "| RPC | Calls of one caller | Rows written | Rows read | Bytes | CPU ms | Messages | "
        "Written/s | Read/s | Bytes/s | CPU ms/s | Messages/s |"
    )
    for service, rpcs in contract.services.items():
        if limited := [rpc for rpc in rpcs if rpc.rate]:
            lines += ["", f"## {service}", "", heads, "|---" * 12 + "|", *map(row, limited)]
    return "\n".join(lines) + "\n"


def write_openapi(output: Path) -> None:
    """Describes the JSON form of the contract in `authmesh/openapi.json`."""
    from openapi import document

    files = descriptor_pb2.FileDescriptorSet.FromString((output / "authmesh" / "contract.binpb").read_bytes())
    version = tomllib.loads((PROTOS.parent / "pyproject.toml").read_text())["project"]["version"]
    (output / "authmesh" / "openapi.json").write_text(
        json.dumps(document(files, version), indent=1, ensure_ascii=False) + "\n"
    )


def drift(output: Path) -> list[str]:
    """The files of gen/ that are not what the protos say."""
    fresh, committed = (
        {
            path.relative_to(root): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        for root in (output, GEN)
    )
    return sorted(str(path) for path in fresh.keys() | committed.keys() if fresh.get(path) != committed.get(path))


def main() -> None:
    """Generates into a folder aside and puts it in place only when everything is right.

    With `--check`, only compares.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        compile_protos(output)
        if missing := rpcs_without_access_rule(output):
            sys.exit(
                "\n".join(
                    f"make gen: {rpc} has no access rule: add option (authmesh.options.v1.access)" for rpc in missing
                )
            )
        contract = load_contract(output)
        if wrong := limits_without_token(contract):
            sys.exit(
                "\n".join(
                    f"make gen: {path} has a limit for each caller and takes no token: remove "
                    f"(authmesh.options.v1.limit)"
                    for path in wrong
                )
            )
        write_openapi(output)
        write_reasons(output)
        pages = {
            "access.md": access_table(contract),
            "contract.md": contract_page(output),
            "limits.md": limit_table(contract),
        }
        if "--check" in sys.argv:
            stale = [f"gen/{path}" for path in drift(output)]
            stale += [
                f"docs/{name}"
                for name, text in pages.items()
                if not (DOCS / name).exists() or (DOCS / name).read_text() != text
            ]
            sys.exit("\n".join(f"{path} differs from protos/: run `make gen` and commit it" for path in stale) or 0)
        for name, text in pages.items():
            (DOCS / name).write_text(text)
        shutil.rmtree(GEN, ignore_errors=True)
        shutil.copytree(output, GEN, ignore=shutil.ignore_patterns("__pycache__"))


if __name__ == "__main__":
    main()
