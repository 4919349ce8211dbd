"""Revocations: the log of them, and how every process learns of it."""
