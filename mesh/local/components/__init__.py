"""The processes of a local mesh: PostgreSQL, Valkey, the AWS emulator, services and their sidecars.

Each is a `Program` for the supervisor.
"""
