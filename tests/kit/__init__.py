"""What tests share: callers, processes, tokens, trails, and faults."""
