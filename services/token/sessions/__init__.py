"""Sessions of people: sign-in, refresh, sign-out, and what a token says."""
