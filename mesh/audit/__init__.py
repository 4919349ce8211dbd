"""What an audit event is.

Its canonical bytes, its personal data and whose keys seal it, and the tombstones of events that could not be delivered.
"""
