"""Identities of other providers (OpenID Connect): linked to an account by its person, and a way to sign in.

`providers` is the file that says whom we believe, `provider_keys` reads their keys, `id_token` judges what they sign;
`identities` are the use cases.
"""
