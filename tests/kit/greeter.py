"""The service of docs/services.md: its listings, in a folder, compiled."""

import asyncio
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FILES = {"greeter.proto": "proto", "service.py": "python", "mesh.yaml": "yaml"}


async def make(folder: Path) -> Path:
    """Writes the listings into a folder and compiles the proto, as the page says. Returns the mesh file."""
    page = (PROJECT / "docs" / "services.md").read_text()
    for name, language in FILES.items():
        found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
        assert found is not None, language
        (folder / name).write_text(found[1])
    includes = [f"-I{folder}", f"-I{PROJECT}/protos", f"-I{PROJECT}/protos/third_party"]
    outputs = [
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        "--include_imports",
        f"--descriptor_set_out={folder}/greeter.binpb",
    ]
    compiler = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, "greeter.proto"
    )
    assert await compiler.wait() == 0
    return folder / "mesh.yaml"
