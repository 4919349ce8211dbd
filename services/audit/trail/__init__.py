"""The trail itself: its objects, its lines, and where it is kept."""
