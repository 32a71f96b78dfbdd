"""What sweeps say about KnFu's claims: ``python -m experiments.claims CLAIM FOLDER``."""
