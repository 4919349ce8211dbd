"""Clients: the applications that may ask for tokens, and how they authenticate."""
