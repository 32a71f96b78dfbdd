"""Hydra config groups; the package must be importable for an installed command to find them."""
