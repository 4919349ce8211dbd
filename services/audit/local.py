"""Audit in a local mesh."""

from mesh.operator.local_service import LocalService

CHECKPOINT_SECONDS = 60
"""Between two checkpoints of the audit trail."""

service = LocalService(
    outputs={
        "AUDIT_QUEUE_URL": "AuditQueueUrl",
        "AUDIT_BUCKET": "AuditBucketName",
        "AUDIT_CHECKPOINT_KEY": "CheckpointKeyArn",
    },
    settings=lambda _: {"CHECKPOINT_SECONDS": str(CHECKPOINT_SECONDS)},
)
