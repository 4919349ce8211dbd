"""A good start, a good day and a good end leave no alarm in any log: whoever finds one may believe it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import running, sign_up

ALARM = re.compile(
    r"\]\[(warning|error|critical)\]"  # Envoy
    r"|\b(WARNING|ERROR|CRITICAL|FATAL|PANIC)\b"  # PostgreSQL, the AWS emulator, migrations
    r"|^\d+:\w [^#]*# "  # Valkey
    r"|^[EWF]\d{4} "  # gRPC's C core
    r"|^Traceback |^\w*(Error|Exception):|\bunhealthy\b"
)
NO_ALARM = (
    # Valkey says these at its level for warnings: of a Linux kernel with other settings than it likes, and at every
    # end.
    "Memory overcommit must be enabled",
    "is now ready to exit, bye bye",
    # PostgreSQL's word for a client that gave up waiting, as any does on a machine too busy to read the answer.
    "FATAL:  connection to client lost",
)


def alarms(log: Path) -> Iterator[str]:
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            # Access logs have no levels.
            if json.loads(line).get("level", "info") not in ("debug", "info"):
                yield f"{log.name}: {line}"
        elif ALARM.search(line) and not any(words in line for words in NO_ALARM):
            yield f"{log.name}: {line}"


@pytest.mark.slow
async def test_a_good_start_a_good_day_and_a_good_end_leave_no_alarm(tmp_path: Path) -> None:
    home = tmp_path / "mesh"
    for _ in range(2):
        # The second start finds everything made.
        async with running(home) as mesh:
            for client in mesh.clients.values():
                person = await sign_up(mesh, client)
                await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "Ada's"}}, person.token)
                await client.ok("ResourceService/ListResources", {}, person.token)
                person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
                await client.ok("TokenService/RevokeToken", {"token": person.tokens["refreshToken"]})
    logs = [*(home / "logs").iterdir(), tmp_path / "mesh.log"]
    assert len(logs) > 15
    assert [alarm for log in sorted(logs) for alarm in alarms(log)] == []


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "database out of reach", "level": "warning"}',
        "[2026-11-26 01:55:43.847][30334][error][filter] [source/a.cc:52] fetch failed",
        "2026-11-26 01:55:37.068 UTC [30072] a@b FATAL:  password authentication failed",
        "2026-11-26 01:56:08 ERROR [asyncio] Exception in callback",
        "30002:M 26 Nov 2026 01:55:35.224 # Failed opening the RDB file",
        "E1126 02:12:33.749422   30347 filter_stack_call.cc:409] Metadata value for key cookie is invalid",
        "ValueError: nonsense",
        "aws: unhealthy (pid -, 127.0.0.1:22520)",
    ],
)
def test_an_alarm_of_every_kind_would_be_found(tmp_path: Path, line: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"all is well\n{line}\n")
    assert len(list(alarms(log))) == 1
