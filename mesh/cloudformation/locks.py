"""What is still there after a stack was deleted, or keeps it from being deleted, in words."""

from collections.abc import Iterator, Mapping

from mesh.cloudformation.stacks import Stack
from mesh.cloudformation.template import RETAINING

_GUARDED: Mapping[str, str] = {
    "AWS::RDS::DBInstance": "rds modify-db-instance --db-instance-identifier authmesh --no-deletion-protection",
    "AWS::EKS::Cluster": "eks update-cluster-config --name authmesh --no-deletion-protection",
}
"""Types with a property DeletionProtection, and the command that lets go."""
_BALANCER = (
    "elbv2 modify-load-balancer-attributes --load-balancer-arn ARN "
    "--attributes Key=deletion_protection.enabled,Value=false"
)


def locks(stack: Stack) -> Iterator[str]:
    """What keeps the stack from being deleted until someone lets go of it, and what no one can delete."""
    for logical_id, resource in stack.template.made(stack.parameters).items():
        kind, properties = resource["Type"], resource.get("Properties", {})
        if kind in _GUARDED and properties.get("DeletionProtection"):
            yield f"{logical_id} has deletion protection. First: aws {_GUARDED[kind]}"
        if kind == "AWS::ElasticLoadBalancingV2::LoadBalancer" and {
            "Key": "deletion_protection.enabled",
            "Value": "true",
        } in properties.get("LoadBalancerAttributes", ()):
            yield f"{logical_id} has deletion protection. First: aws {_BALANCER}"
        if lock := properties.get("ObjectLockConfiguration"):
            retention = lock["Rule"]["DefaultRetention"]
            mode = stack.template.value(retention["Mode"], stack.parameters)
            days = stack.template.value(retention["Days"], stack.parameters)
            who = "no user, not even root, can delete" if mode == "COMPLIANCE" else "only who is granted it can delete"
            yield f"{logical_id} stays: {who} its objects for {days} days after they were written"
        if kind == "AWS::KMS::Key" and any(
            statement["Effect"] == "Deny" and "kms:ScheduleKeyDeletion" in statement["Action"]
            for statement in properties["KeyPolicy"]["Statement"]
        ):
            yield f"{logical_id} stays: its policy refuses its deletion"


def kept(stack: Stack) -> list[str]:
    """Logical ids of what stays in the account, and costs on, after the stack was deleted."""
    return [
        f"{logical_id} (a last snapshot)" if resource["DeletionPolicy"] == "Snapshot" else logical_id
        for logical_id, resource in stack.template.made(stack.parameters).items()
        if resource.get("DeletionPolicy") in RETAINING
    ]
