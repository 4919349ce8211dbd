"""Access tokens, as every service of the mesh checks them.

`verifier` says what a token claims, `keys` what it may be signed with, `revocations` which tokens are refused
nevertheless, and `feed` keeps that set fresh. `policy` holds the claims against the access rule of the method.
`authentication` is the interceptor stage made of these; it does no network I/O on the hot path. `jws` takes signed
tokens apart, `refresh_cookie` is where a browser keeps its refresh token. Nothing here knows how tokens are issued.
"""
