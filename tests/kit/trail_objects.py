"""What is in S3."""

import gzip
import json
from typing import Any

from tests.e2e.conftest import RunningMesh


async def audit_events(mesh: RunningMesh) -> list[dict[str, Any]]:
    """Every audit event in the bucket, as it lies there."""
    status = mesh.status
    events: list[dict[str, Any]] = []
    async with mesh.aws.client("s3") as s3:
        async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=status["audit_bucket"], Prefix="audit/"):
            for item in page.get("Contents", []):
                answer = await s3.get_object(Bucket=status["audit_bucket"], Key=item["Key"])
                content = gzip.decompress(await answer["Body"].read())
                events += [json.loads(line) for line in content.splitlines()]
    return events
