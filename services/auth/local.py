"""Auth in a local mesh."""

from mesh.operator.local_service import LocalService

service = LocalService(outputs={"NOTICES_QUEUE_URL": "NoticesQueueUrl"})
