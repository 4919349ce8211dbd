"""Where secrets are kept, and how a process follows them when they are rotated."""
