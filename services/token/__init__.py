"""Token: signing keys, clients, sessions, refresh lineages, revocations, introspection.

`service` and `issuer_service` are the servicers; `sessions` the use cases; `lineage`, `grants`, `clients`, `refresh_token`, `access_token` the rules,
without I/O; `store` and `revocation_log` the SQL; `publisher` sends the log to every process; `signer` the port behind which the key is.
"""
