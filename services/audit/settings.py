"""What the Audit process reads from its environment."""

from pydantic import Field

from mesh.settings import DatabaseSettings, EventSettings, ProcessSettings


class AuditSettings(ProcessSettings, DatabaseSettings, EventSettings):
    """Settings of the Audit service."""

    audit_queue_url: str = Field(min_length=1)
    """The SQS queue that the audit rule of the bus fills."""
    audit_bucket: str = Field(min_length=1)
    """The S3 bucket that keeps the trail."""
    audit_queue_senders: str = ""
    """SQS sender ids (`SenderId`, up to the colon) whose messages are taken, with commas: that of EventBridge, and
    those of roles that redrive. Empty: the queue's policy alone says who may send.
    """
    audit_checkpoint_key: str = Field(min_length=1)
    """The KMS key that signs checkpoints: ARN, id or `alias/…` of an ECC_NIST_P256 key for signing."""
    checkpoint_seconds: int = Field(default=300, ge=1)
    """Between checkpoints. What was deleted before a checkpoint saw it can only be told from the gap it leaves."""
