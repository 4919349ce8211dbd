"""Where the relay sends entries to, one sink for each kind: audit events, messages to people, commands to services."""
