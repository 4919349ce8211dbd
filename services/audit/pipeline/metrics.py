"""Names of the metrics that the audit pipeline's alarms watch (deploy/aws/events.yaml)."""

NOT_STORED = "AuditEventsNotStored"
"""Events that an attempt could not bring into S3. They wait in the queue."""
CHECKPOINTS = "AuditCheckpoints"
"""Checkpoints that were signed."""
