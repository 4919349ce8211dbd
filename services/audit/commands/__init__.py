"""`authmesh audit`."""
