"""Token: signing keys, clients, sessions, refresh lineages, revocations, introspection.

`service` has the servicers; `sign_in`, `refresh`, `sign_out`, `subjects` and `introspection` the use cases; `lineage`,
`grants`, `clients`, `refresh_token` and `access_token` the rules, without I/O; `store` and `revocation_log` the SQL;
`revoker` ends things; `publisher` sends the log to every process; `signer` is the port behind which a signing key is,
and `keys` the life of those keys.
"""
