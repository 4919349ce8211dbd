"""The attack list of the product, against the real process and the real sidecar. What a unit can show is shown beside
that unit."""
