"""Passkeys (WebAuthn level 3): registered by someone who is signed in, and a way to sign in by itself.

`relying_party` is what the standard asks of us, done by fido2; `ceremony` is what is remembered between the two calls
of each; `passkeys` and `sign_in` are the use cases.
"""
