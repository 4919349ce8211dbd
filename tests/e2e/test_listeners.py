"""What another account of the machine finds when it looks for ways into the mesh."""

import asyncio
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import RunningMesh

STRANGER = r"""
import encodings.idna, http.client, json, os, socket, ssl, sys
targets = json.load(sys.stdin)
# Only now: the interpreter itself may be where nobody else can read.
os.setgroups([]), os.setgid(targets["account"]), os.setuid(targets["account"])
found = {}

def attempt(name, action):
    try:
        found[name] = action()
    except Exception as error:
        found[name] = type(error).__name__

def aws(port, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/2015-03-31/functions", b"{}", headers)
    return connection.getresponse().status

credential = "Credential={}/20261124/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
for key in ("test", "authmesh", "000000000000"):
    attempt("aws as " + key, lambda: aws(targets["aws"], authorization="AWS4-HMAC-SHA256 " + credential.format(key)))
attempt("aws unsigned", lambda: aws(targets["aws"]))
attempt("aws from a page", lambda: aws(targets["aws"], origin="https://evil.example"))

def ingress(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        return tls.recv(100).decode(errors="replace")

for name, port in targets["ingresses"].items():
    attempt(name, lambda: ingress(port))
for path in targets["sockets"]:
    attempt(path, lambda: socket.socket(socket.AF_UNIX).connect(path))
for path in targets["files"]:
    attempt(path, lambda: open(path, "rb").read(1))
json.dump(found, sys.stdout)
"""


def listening(mesh: RunningMesh) -> dict[int, str]:
    """TCP ports that processes of the mesh listen on, and whose they are."""
    owners: dict[str, str] = {}
    runner = {"pid": mesh.status["runner"]["pid"], "name": "traces"}
    for row in [*mesh.status["processes"], runner]:
        for descriptor in Path(f"/proc/{row['pid']}/fd").iterdir():
            owners[str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]")] = row["name"]
    lines = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {
        int(fields[1].rpartition(":")[2], 16): owners[fields[9]]
        for fields in lines
        if fields[3] == "0A" and fields[9] in owners
    }


async def as_a_stranger(**targets: Any) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", STRANGER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd="/"
    )
    output, _ = await process.communicate(json.dumps(targets | {"account": pwd.getpwnam("nobody").pw_uid}).encode())
    found: dict[str, Any] = json.loads(output)
    return found


def observed(mesh: RunningMesh) -> set[int]:
    """Ports of probes and metrics."""
    return {int(address.rpartition(":")[2]) for address in mesh.status["observed"].values()}


async def test_nothing_listens_but_edge_ingresses_metrics_and_the_emulator(mesh: RunningMesh) -> None:
    sidecars = [row["name"] for row in mesh.status["processes"] if row["name"].endswith("-sidecar")]
    # What the ports of metrics tell, and to whom: tests/e2e/test_metrics.py.
    others = [name for port, name in listening(mesh).items() if port not in observed(mesh)]
    assert sorted(others) == sorted(["aws", "edge", "traces", *sidecars])
    assert observed(mesh) <= listening(mesh).keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
async def test_another_account_gets_nowhere(mesh: RunningMesh) -> None:
    ports = {name: port for port, name in listening(mesh).items() if port not in observed(mesh)}
    rows = mesh.status["processes"]
    sockets = [row["address"].removeprefix("unix:") for row in rows if row["address"].startswith("unix:")]
    directories = {str(Path(socket).parent) for socket in sockets}
    sockets += [str(socket) for directory in directories for socket in Path(directory).iterdir()]
    files = [str(path) for path in mesh.home.rglob("*") if path.is_file()]
    files += [f"/proc/{row['pid']}/environ" for row in rows]
    ingresses = {name: port for name, port in ports.items() if name.endswith("-sidecar")}
    found = await as_a_stranger(aws=ports["aws"], ingresses=ingresses, sockets=sockets, files=files)
    assert {answer for name, answer in found.items() if name.startswith("aws")} == {403}
    # TLS 1.3 lets a client finish the handshake before the server has seen that it shows no certificate.
    refused = {"SSLError", "SSLEOFError", "ConnectionResetError", ""}
    assert {name: answer for name, answer in found.items() if name in ingresses and answer not in refused} == {}
    assert {
        name: answer for name, answer in found.items() if name in {*sockets, *files} and answer != "PermissionError"
    } == {}
    assert len(found) == 5 + len(ingresses) + len({*sockets, *files})


async def test_the_meshs_own_key_works_and_is_another_one_for_every_mesh(mesh: RunningMesh, tmp_path: Path) -> None:
    from mesh.local.components import aws_emulator
    from mesh.local.infra import Infra

    async with mesh.aws.client("s3") as s3:
        assert await s3.head_bucket(Bucket=mesh.status["audit_bucket"])
    other = aws_emulator.prepare(Infra.find(), tmp_path)
    assert other.secret != mesh.aws.environment["AWS_SECRET_ACCESS_KEY"]
    assert other.access_key != mesh.aws.environment["AWS_ACCESS_KEY_ID"]


async def test_a_page_in_a_browser_is_refused_even_with_the_key(mesh: RunningMesh) -> None:
    from botocore.exceptions import ClientError

    def as_a_page(request: Any, **_: Any) -> None:
        request.headers["origin"] = "https://evil.example"

    async with mesh.aws.client("sqs") as sqs:
        assert (await sqs.list_queues())["QueueUrls"]
        sqs.meta.events.register("before-send.sqs", as_a_page)
        with pytest.raises(ClientError, match="no web page may call this"):
            await sqs.list_queues()


async def test_apis_that_the_mesh_does_not_need_are_not_there(mesh: RunningMesh) -> None:
    from botocore.exceptions import ClientError

    for name, method in (("lambda", "list_functions"), ("sts", "get_caller_identity"), ("iam", "list_roles")):
        async with mesh.aws.client(name) as client:
            with pytest.raises(ClientError, match="is not served here"):
                await getattr(client, method)()
