"""The bounded contexts, one folder each. A service imports `mesh` and `authmesh` (generated), never another service."""
