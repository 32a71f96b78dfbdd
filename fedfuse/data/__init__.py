"""Data: sources, the cache they share, the split into private, public and test, and tensors."""
