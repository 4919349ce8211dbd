"""The user pool of Cognito.

The CloudFormation stack of `deploy/aws/identity.yaml`, made in the local account as it would be in AWS.
"""

from contextlib import AsyncExitStack
from pathlib import Path

from mesh.local.stack import ensure_stack
from mesh.operator.aws_account import AwsAccount
from mesh.operator.errors import OperatorError
from mesh.operator.local_service import UserPool
from mesh.operator.secret_file import write_private
from mesh.operator.state_dir import PROJECT

TEMPLATE = PROJECT / "deploy" / "aws" / "identity.yaml"
STACK = "authmesh-identity"


async def ensure(account: AwsAccount, secret: Path) -> tuple[UserPool, bool]:
    """Makes the stack, or changes it where the template changed.

    Args:
        account: The account.
        secret: The file that the client's secret is written to.

    Returns:
        The pool, and whether anything was made or changed.

    Raises:
        OperatorError: the account can't be reached, or CloudFormation refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        async with AsyncExitStack() as stack:
            cloudformation = await stack.enter_async_context(account.client("cloudformation"))
            outputs, changed = await ensure_stack(cloudformation, STACK, TEMPLATE)
            cognito = await stack.enter_async_context(account.client("cognito-idp"))
            pool = UserPool(outputs["UserPoolId"], outputs["UserPoolClientId"], secret)
            answer = await cognito.describe_user_pool_client(UserPoolId=pool.pool_id, ClientId=pool.client_id)
    except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
        raise OperatorError(f"the user pool can't be made in {account.endpoint_url}: {error}") from None
    write_private(secret, answer["UserPoolClient"]["ClientSecret"].encode())
    return pool, changed
