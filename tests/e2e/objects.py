"""What is in S3."""

import gzip
import json
from typing import Any

from aiobotocore.session import get_session

from tests.e2e.conftest import RunningMesh


async def audit_events(mesh: RunningMesh) -> list[dict[str, Any]]:
    """Every audit event in the bucket, as it lies there."""
    status = mesh.status
    events: list[dict[str, Any]] = []
    async with get_session().create_client(
        "s3", endpoint_url=status["aws_endpoint_url"], region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    ) as s3:
        async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=status["audit_bucket"], Prefix="audit/"):
            for item in page.get("Contents", []):
                answer = await s3.get_object(Bucket=status["audit_bucket"], Key=item["Key"])
                content = gzip.decompress(await answer["Body"].read())
                events += [json.loads(line) for line in content.splitlines()]
    return events
