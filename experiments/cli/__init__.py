"""The words of the fedfuse command, without Hydra or torch."""
