"""What a change set does, in words."""

from typing import Any

import pytest

from mesh.cloudformation import commands
from mesh.cloudformation.change import Action, from_aws
from mesh.cloudformation.locks import kept, locks
from mesh.cloudformation.stacks import chosen


def change(action: str, **more: Any) -> Any:
    return {"ResourceChange": {"Action": action, "LogicalResourceId": "Thing", "ResourceType": "AWS::A::B"} | more}


@pytest.mark.parametrize(("found", "action", "dangerous"), [
    (change("Add"), Action.ADD, False),
    (change("Import"), Action.IMPORT, False),
    (change("Modify", Replacement="False"), Action.MODIFY, False),
    (change("Modify", Replacement="Conditional"), Action.MAYBE_REPLACE, True),
    (change("Modify", Replacement="True"), Action.REPLACE, True),
    (change("Remove"), Action.REMOVE, True),
    (change("Remove", PolicyAction="Retain"), Action.KEEP, False),
])  # fmt: skip
def test_what_may_be_lost_is_dangerous(found: Any, action: Action, dangerous: bool) -> None:
    read = from_aws(found)
    assert (read.action, read.is_dangerous) == (action, dangerous)


def test_a_change_names_the_properties() -> None:
    details = [
        {"Target": {"Attribute": "Properties", "Name": name}} for name in ("StorageEncrypted", "Engine", "Engine")
    ]
    tags = {"Target": {"Attribute": "Tags"}}
    read = from_aws(change("Modify", Replacement="True", Details=[*details, tags]))
    assert str(read) == "replace Thing (AWS::A::B): Engine, StorageEncrypted"


def test_a_mode_that_can_be_lifted_is_told_as_such() -> None:
    def told(mode: str) -> str:
        (events,) = chosen(["events"], {"RetentionMode": mode, "RetentionDays": "30"})
        return next(line for line in locks(events) if line.startswith("AuditBucket"))

    assert told("COMPLIANCE") == (
        "AuditBucket stays: no user, not even root, can delete its objects for 30 days after they were written"
    )
    assert told("GOVERNANCE") == (
        "AuditBucket stays: only who is granted it can delete its objects for 30 days after they were written"
    )


def test_what_stays_is_what_the_template_says() -> None:
    (data,) = chosen(["data"])
    assert kept(data) == ["StorageKey", "DatabaseLogs", "DatabaseUpgradeLogs", "Database (a last snapshot)"]


def test_a_stack_that_takes_long_tells_how_far_it_is_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "TELL_SECONDS", 0)
    with commands._progress("authmesh-data") as progress:
        progress(3, 17, "Database create in progress")
    assert capsys.readouterr().out == "authmesh-data: 3 of 17, Database create in progress\nauthmesh-data: done\n"
