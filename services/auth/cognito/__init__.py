"""Cognito as the identity provider: a user pool keeps the passwords, proves addresses and may ask for its own MFA.

It is asked at sign-in, sign-up and changes of the account, and never afterwards: our own tokens carry the session.
"""
