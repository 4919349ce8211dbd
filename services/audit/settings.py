"""What the Audit process reads from its environment beside `ProcessSettings`."""

from pydantic import Field

from mesh.settings import ProcessSettings


class AuditSettings(ProcessSettings):
    """Settings of the Audit service."""

    audit_queue_url: str = Field(min_length=1)
    """The SQS queue that the audit rule of the bus fills."""
    audit_bucket: str = Field(min_length=1)
    """The S3 bucket that keeps the trail."""
