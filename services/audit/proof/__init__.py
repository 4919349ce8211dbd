"""The proof of the trail: checkpoints, verification, and signed acknowledgements."""
