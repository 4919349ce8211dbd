"""Packs the code of the Lambda functions: `python deploy/aws/package.py build/authmesh-functions.zip`.

The archive holds what the two handlers import and nothing else: of `services.audit`, `services.mail` and `mesh`, the
generated events, and protobuf as it is installed here. Protobuf has a compiled part for one architecture (the
template's CodeArchitecture) and any Python from 3.10 on: pack on Linux. The
bytes depend on the content alone, so an unchanged archive has an unchanged hash.
"""

import importlib.util
import platform
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = (
    (PROJECT, "services/__init__.py"),
    (PROJECT, "services/audit/__init__.py"),
    (PROJECT, "services/audit/envelope.py"),
    (PROJECT, "services/audit/lambda_handler.py"),
    (PROJECT, "services/audit/lines.py"),
    (PROJECT, "services/audit/objects.py"),
    (PROJECT, "services/mail/**/*.py"),
    (PROJECT, "services/mail/letters/*"),
    (PROJECT, "mesh/__init__.py"),
    (PROJECT, "mesh/ids.py"),
    (PROJECT, "mesh/audit/__init__.py"),
    (PROJECT, "mesh/audit/canonical.py"),
    (PROJECT, "mesh/audit/tombstone.py"),
    (PROJECT / "gen", "authmesh/audit/v1/audit_event_pb2.py"),
    (PROJECT / "gen", "authmesh/options/v1/audit_pb2.py"),
)
LONG_AGO = (2026, 1, 1, 0, 0, 0)


def files() -> Iterator[tuple[str, Path]]:
    """Each file of the archive: its name there, and where it is.

    Raises:
        FileNotFoundError: one is missing, or protobuf is not installed.
    """
    for root, pattern in SOURCES:
        found = [path for path in sorted(root.glob(pattern)) if path.is_file()]
        if not found:
            raise FileNotFoundError(f"{pattern} is missing in {root}")
        yield from ((path.relative_to(root).as_posix(), path) for path in found)
    spec = importlib.util.find_spec("google.protobuf")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("protobuf is not installed: `make run-mesh` installs it")
    protobuf = Path(next(iter(spec.submodule_search_locations)))
    # `google/_upb` is beside it.
    for folder in (protobuf, protobuf.parent / "_upb"):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".so"} and "compiler" not in path.parts:
                yield path.relative_to(protobuf.parents[1]).as_posix(), path


def pack(archive: Path) -> None:
    """Writes the archive.

    Raises:
        FileNotFoundError: a file is missing.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, path in files():
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            stream.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python deploy/aws/package.py ARCHIVE")
    if sys.platform != "linux":
        sys.exit("package.py: pack on Linux: protobuf's compiled part is for the system that it was installed on")
    pack(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: CodeArchitecture is {'arm64' if platform.machine() in {'aarch64', 'arm64'} else 'x86_64'}")
