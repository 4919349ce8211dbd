"""`authmesh audit acknowledge`: an operator says in a signed statement that findings are known, and why.

Later verifications show it. The trail is verified first: what is acknowledged was found just now, exactly as the
statement names it.
"""

import getpass
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from mesh.operator import terminal
from mesh.operator.target import EndpointOption
from services.audit.commands import trail_location as opened
from services.audit.commands.trail_location import (
    AcknowledgementKeyOption,
    BucketOption,
    KeyOption,
    fail,
)

SHORTEST = 8
"""Digits of an id that are enough to name a finding."""


def command(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids of findings, as `authmesh audit verify` prints them.")
    ],
    reason: Annotated[str, typer.Option(help="Why the findings are accepted. Kept for as long as the trail.")],
    by: Annotated[
        str, typer.Option(help="Who says so; by default whom AWS takes you for, or you on this machine.")
    ] = "",
    key_id: Annotated[
        str, typer.Option(help="The KMS key that signs acknowledgements.")
    ] = "alias/authmesh-audit-acknowledgements",
    source: Annotated[str | None, typer.Option(help="Verify only this source's chain before.")] = None,
    key: KeyOption = None,
    acknowledgement_key: AcknowledgementKeyOption = None,
    bucket: BucketOption = None,
    endpoint_url: EndpointOption = None,
) -> None:
    """Acknowledge findings.

    A signed statement, chained to those before it, says that they are known, by whom and why.
    """
    from services.audit.proof.acknowledgements import MAX_BY, MAX_REASON

    reason, by = reason.strip(), by.strip()
    if not 1 <= len(reason) <= MAX_REASON or len(by) > MAX_BY:
        fail(f"--reason takes 1 to {MAX_REASON} characters, --by {MAX_BY} at most")
    pinned, believed = opened.keys(key, acknowledgement_key)
    statement = opened.run(_acknowledge(ids, reason, by, key_id, source, pinned, believed, bucket, endpoint_url))
    for item in statement.findings:
        terminal.line(f"acknowledged: {item.kind}: {item.text} [{item.id[:12]}]")
    said = statement.acknowledgement
    terminal.line(f"acknowledgement {said.number}, by {said.by} at {said.time:%Y-%m-%dT%H:%M:%SZ}: {said.reason}")


async def _acknowledge(
    ids: Sequence[str],
    reason: str,
    by: str,
    key_id: str,
    source: str | None,
    pinned: Any,
    believed: Any,
    bucket: str | None,
    endpoint_url: str | None,
) -> Any:
    from botocore.exceptions import ClientError

    from services.audit.proof import acknowledgements
    from services.audit.proof.statement import PinnedKey, digest, pem_of, seal
    from services.audit.proof.verification import verify

    account = opened.account(bucket, endpoint_url)
    async with opened.bucket_of(account) as archive, account.client("kms") as kms, account.client("s3") as s3:
        signer = PinnedKey(pem_of((await kms.get_public_key(KeyId=key_id))["PublicKey"]))
        if believed and believed.fingerprint != signer.fingerprint:
            fail(
                f"verifiers would not believe {key_id}: it is not the pinned key of acknowledgements "
                f"(--acknowledgement-key)"
            )
        with opened.bar() as progress:
            report = await verify(archive, pinned, acknowledgement_key=signer, source=source, progress=progress)
        statement = acknowledgements.statement(
            [_chosen(report, id_) for id_ in dict.fromkeys(ids)],
            await acknowledgements.newest(archive),
            trail=pinned.fingerprint,
            time=datetime.now(UTC),
            by=by or await _caller(account),
            reason=reason,
        )
        document = statement.encode()
        answer = await kms.sign(
            KeyId=key_id, Message=digest(document), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
        )
        try:
            await s3.put_object(
                Bucket=account.bucket,
                Key=acknowledgements.SERIES.key_of(statement.acknowledgement.number),
                Body=seal(document, answer["Signature"]),
                ContentType="application/jsonl",
                IfNoneMatch="*",
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                raise
            fail("another acknowledgement was written meanwhile: verify, and acknowledge what is left")
        return statement


def _chosen(report: Any, id_: str) -> Any:
    """The finding that an id, or the beginning of one, names."""
    if len(id_) < SHORTEST:
        fail(f"{id_} is too short: give at least {SHORTEST} digits of a finding's id")
    found = [finding for finding in report.findings if finding.id.startswith(id_.lower())]
    if known := next((item for item in report.acknowledged if item.finding.id.startswith(id_.lower())), None):
        fail(f"{id_} is acknowledged already, by acknowledgement {known.acknowledgement.number}")
    if len(found) != 1:
        fail(
            f"{id_} names {'several findings' if found else 'nothing that was found just now'}: "
            f"`authmesh audit verify` prints the ids"
        )
    if not found[0].can_be_acknowledged:
        fail(
            f"{id_} can't be acknowledged: {terminal.escaped(found[0].text)}. Whatever was cut off "
            f"since then would be acknowledged with it"
        )
    return found[0]


async def _caller(account: Any) -> str:
    """Who signs, as far as is known: AWS's own record of it is in CloudTrail."""
    if account.is_local:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        async with account.client("sts") as sts:
            return str((await sts.get_caller_identity())["Arn"])
    except (BotoCoreError, ClientError) as error:
        fail(f"AWS does not say who you are ({error}): name yourself with --by")
