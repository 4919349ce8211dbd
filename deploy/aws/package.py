"""`make functions`: packs the code of the Lambda functions into build/functions/authmesh-functions-<content>.zip.

The archive holds what the two handlers import and nothing else: parts of `services.audit`, `services.mail` and `mesh`,
the generated events, and protobuf as it is installed in the project's environment. Protobuf has a compiled part for one
architecture (the template's CodeArchitecture) and any Python from 3.10 on: pack on Linux. The bytes depend on the
content alone, and the name on the bytes: CloudFormation sees new code as a change. Before the archive is called good, a
bare interpreter imports both handlers from it.
"""

import hashlib
import importlib.metadata
import io
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HANDLERS = ("services.audit.pipeline.lambda_handler", "services.mail.handler")
SOURCES = (
    (PROJECT, "mesh/__init__.py"),
    (PROJECT, "mesh/telemetry/__init__.py"),
    (PROJECT, "mesh/telemetry/embedded_metric.py"),
    (PROJECT, "mesh/lambda_batch.py"),
    (PROJECT, "services/__init__.py"),
    (PROJECT, "services/audit/__init__.py"),
    (PROJECT, "services/audit/pipeline/__init__.py"),
    (PROJECT, "services/audit/trail/__init__.py"),
    (PROJECT, "services/audit/pipeline/envelope.py"),
    (PROJECT, "services/audit/pipeline/lambda_handler.py"),
    (PROJECT, "services/audit/trail/event_codec.py"),
    (PROJECT, "services/audit/pipeline/metrics.py"),
    (PROJECT, "services/audit/trail/objects.py"),
    (PROJECT, "services/mail/**/*.py"),
    (PROJECT, "services/mail/letters/*"),
    (PROJECT, "mesh/ids.py"),
    (PROJECT, "mesh/audit/__init__.py"),
    (PROJECT, "mesh/audit/canonical.py"),
    (PROJECT, "mesh/audit/tombstone.py"),
    (PROJECT / "gen", "authmesh/audit/v1/audit_event_pb2.py"),
    (PROJECT / "gen", "authmesh/options/v1/audit_pb2.py"),
    (PROJECT / "gen", "authmesh/mail/v1/message_pb2.py"),
)
OF_LAMBDA = ("botocore", "dateutil", "jmespath", "six.py", "urllib3")
"""What the Lambda runtime brings, by the names in site-packages."""
LONG_AGO = (2026, 1, 1, 0, 0, 0)
_ADVICE = "run `make functions`, which packs from the project's own environment"


class PackageError(Exception):
    """The archive can't be made, or doesn't work. Says why."""


def pack(folder: Path) -> Path:
    """Writes the archive into a folder, once it is sure that both handlers can be imported from it.

    Raises:
        PackageError: a file is missing, or a handler can't be imported.
    """
    content = _archive()
    _prove(content)
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"authmesh-functions-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    archive.write_bytes(content)
    return archive


def _archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in _files():
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return stream.getvalue()


def _files() -> Iterator[tuple[str, Path]]:
    """Each file of the archive: its name there, and where it is."""
    for root, pattern in SOURCES:
        found = [path for path in sorted(root.glob(pattern)) if path.is_file()]
        if not found:
            raise PackageError(f"{pattern} is missing in {root}")
        yield from ((path.relative_to(root).as_posix(), path) for path in found)
    site = _site_packages("protobuf")
    # `google/_upb` is the compiled part.
    for folder in (site / "google" / "protobuf", site / "google" / "_upb"):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".so"} and "compiler" not in path.parts:
                yield path.relative_to(site).as_posix(), path


def _site_packages(distribution: str) -> Path:
    try:
        return Path(str(importlib.metadata.distribution(distribution).locate_file("")))
    except importlib.metadata.PackageNotFoundError:
        raise PackageError(f"{distribution} is not installed for {sys.executable}: {_ADVICE}") from None


def _prove(content: bytes) -> None:
    """Imports the handlers from the archive in an interpreter that has nothing else but what Lambda brings."""
    site = _site_packages("botocore")
    with tempfile.TemporaryDirectory(prefix="authmesh-functions-") as name:
        code, runtime = Path(name) / "code", Path(name) / "runtime"
        runtime.mkdir()
        for part in OF_LAMBDA:
            (runtime / part).symlink_to(site / part)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(code)
        script = f"import sys; sys.path[:0] = {[str(code), str(runtime)]!r}\n" + "".join(
            f"import {handler}\n" for handler in HANDLERS
        )
        # Isolated and without site-packages: what is imported is in the archive.
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script], cwd=name, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise PackageError(
            f"the archive does not work: {done.stderr.strip().splitlines()[-1]}. Packed with "
            f"{sys.executable}: {_ADVICE}"
        )


def main() -> None:
    """Packs and prints the parameters of the template."""
    if sys.platform != "linux":
        sys.exit("package.py: pack on Linux: protobuf's compiled part is for the system that it was installed on")
    try:
        archive = pack(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "build" / "functions")
    except PackageError as error:
        sys.exit(f"package.py: {error}")
    shown = archive.relative_to(Path.cwd()) if archive.is_relative_to(Path.cwd()) else archive
    architecture = "arm64" if platform.machine() in {"aarch64", "arm64"} else "x86_64"
    print(f"{shown}\nCodeKey={archive.name} CodeArchitecture={architecture}")


if __name__ == "__main__":
    main()
