"""The mesh in AWS: the stacks of `deploy/aws/`, what they would change, what they cost, and how they are made."""
