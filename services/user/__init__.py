"""User: profiles, roles and status.

`service` translates gRPC; `directory` (profiles) and `administration` (roles and status) decide by the rules in
`profile` and `roles`, pure functions; `store` is the SQL; `admin` is `authmesh admin`, for the operator of the machine;
`main` wires it all.

User is the authority for roles and status. Token and Auth hold versioned copies, which commands in the outbox bring up
to date.
"""
