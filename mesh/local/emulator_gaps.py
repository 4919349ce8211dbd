"""What the AWS emulator leaves out of the event stack, completed by hand.

The one place for it: in AWS none of this runs.

ministack 1.5 takes the template and ignores these properties:
- the bucket's BucketEncryption, ObjectLockConfiguration and LifecycleConfiguration;
- the topics' KmsMasterKeyId, and every IAM and queue policy, which nothing local depends on.

It has no AWS::Events::Archive, which the template leaves out by default (ArchiveDays).

Its state reaches the disk only at an orderly end (objects in buckets at once). Killed before its first one it would
forget the stack and keep the bucket, which no new stack could then adopt: so after the stack was made the emulator is
restarted, in order, once. What a later kill loses are the messages that waited in queues.
"""

from collections.abc import Mapping

from mesh.local.child import Child
from mesh.operator.aws_account import AwsAccount

RETENTION_MODE = "COMPLIANCE"
RETENTION_DAYS = 365
"""As the template's parameters have it by default."""


async def fill_gaps(account: AwsAccount, outputs: Mapping[str, str]) -> None:
    """Sets what CloudFormation in the emulator did not.

    Args:
        account: The emulated account.
        outputs: Of the stack.
    """
    async with account.client("s3") as s3:
        await s3.put_bucket_encryption(
            Bucket=outputs["AuditBucketName"],
            ServerSideEncryptionConfiguration={
                "Rules": [
                    {
                        "ApplyServerSideEncryptionByDefault": {
                            "SSEAlgorithm": "aws:kms",
                            "KMSMasterKeyID": outputs["DataKeyArn"],
                        },
                        "BucketKeyEnabled": True,
                    }
                ]
            },
        )
        await s3.put_object_lock_configuration(
            Bucket=outputs["AuditBucketName"],
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": RETENTION_MODE, "Days": RETENTION_DAYS}},
            },
        )
        await s3.put_bucket_lifecycle_configuration(
            Bucket=outputs["AuditBucketName"],
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "unfinished-uploads",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                    }
                ]
            },
        )


async def save_state(emulator: Child) -> None:
    """Makes the emulator write its state, by an orderly restart. Returns when it is healthy again.

    Args:
        emulator: Its supervised process.
    """
    await emulator.restart()
