"""A user pool of the emulator, with a client that has a secret, as deploy/aws/identity.yaml makes them."""

from dataclasses import dataclass
from typing import Any

from mesh.cloudformation.stacks import chosen


@dataclass(frozen=True)
class Pool:
    """What Auth is told of it."""

    id: str
    client_id: str
    client_secret: str


def properties(resource_type: str) -> dict[str, Any]:
    """Of the template's resource."""
    (stack,) = chosen(["identity"])
    (resource,) = [one for one in stack.template.resources.values() if one["Type"] == resource_type]
    return dict(resource["Properties"])


async def make(cognito: Any) -> Pool:
    """Makes one by the API."""
    pool = properties("AWS::Cognito::UserPool")
    client = properties("AWS::Cognito::UserPoolClient")
    made = await cognito.create_user_pool(
        PoolName="authmesh",
        UsernameAttributes=pool["UsernameAttributes"],
        AutoVerifiedAttributes=pool["AutoVerifiedAttributes"],
        MfaConfiguration=pool["MfaConfiguration"],
        Policies=pool["Policies"],
    )
    pool_id = made["UserPool"]["Id"]
    answer = await cognito.create_user_pool_client(
        UserPoolId=pool_id,
        ClientName="authmesh",
        GenerateSecret=True,
        ExplicitAuthFlows=[*client["ExplicitAuthFlows"], "ALLOW_USER_PASSWORD_AUTH"],
        PreventUserExistenceErrors=client["PreventUserExistenceErrors"],
    )
    made_client = answer["UserPoolClient"]
    return Pool(pool_id, made_client["ClientId"], made_client["ClientSecret"])
