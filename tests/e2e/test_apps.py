"""The stubs and listings of docs/apps.md: generated, compiled and run against the mesh, each where its toolchain is
found."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Person, RunningMesh
from tests.kit.pages import PROJECT, npm_install, run, write_listing

pytestmark = pytest.mark.slow

PAGE = "docs/apps.md"
BUF = Path(sys.executable).parent / "buf"
TYPESCRIPT = [
    "@bufbuild/protobuf@2.17.0",
    "@bufbuild/protoc-gen-es@2.12.1",
    "@connectrpc/connect@2.2.0",
    "@connectrpc/connect-web@2.2.0",
]
COMPILER = ["typescript@5", "@types/node@20"]
GO_PLUGINS = [
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0",
]
EXPECTED = ["resources: 0", "without a token: Unauthenticated TOKEN_MISSING"]


async def generate(folder: Path, template: str, tools: Path) -> None:
    """Runs the page's `buf generate` for a template."""
    (folder / "protos").symlink_to(PROJECT / "protos")
    write_listing(PAGE, folder, template)
    lines = (PROJECT / PAGE).read_text().splitlines()
    command = next(line for line in lines if line.startswith(f"buf generate protos --template {template}"))
    await run(folder, BUF, *command.split()[1:], PATH=f"{tools}:{os.environ['PATH']}")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
async def test_the_typescript_listing_signs_in_refreshes_and_reads_errors(
    mesh: RunningMesh, person: Person, tmp_path: Path
) -> None:
    tools = await npm_install(tmp_path, *TYPESCRIPT, *COMPILER)
    await generate(tmp_path, "buf.gen.ts.yaml", tools)
    write_listing(PAGE, tmp_path, "main.ts")
    options = [
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--skipLibCheck",
        "--types",
        "node",
        "--outDir",
        "out",
    ]
    await run(tmp_path, tools / "tsc", *options, "main.ts")
    authority = {"NODE_EXTRA_CA_CERTS": str(mesh.status["ca_file"])}
    output = await run(tmp_path, "node", "out/main.js", mesh.status["edge"], person.email, person.password, **authority)
    assert output.splitlines() == EXPECTED


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
async def test_the_go_listing_signs_in_refreshes_and_reads_errors(
    mesh: RunningMesh, person: Person, tmp_path: Path
) -> None:
    for plugin in GO_PLUGINS:
        await run(tmp_path, "go", "install", plugin, GOBIN=str(tmp_path / "bin"))
    await run(tmp_path, "go", "mod", "init", "example.com/app")
    await generate(tmp_path, "buf.gen.go.yaml", tmp_path / "bin")
    write_listing(PAGE, tmp_path, "main.go")
    await run(tmp_path, "go", "mod", "tidy")
    edge = mesh.status["edge"].removeprefix("https://")
    output = await run(tmp_path, "go", "run", ".", edge, mesh.status["ca_file"], person.email, person.password)
    assert output.splitlines() == EXPECTED
