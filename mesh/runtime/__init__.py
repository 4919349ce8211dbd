"""What long-running processes are made of."""
