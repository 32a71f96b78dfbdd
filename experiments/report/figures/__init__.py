"""The figures: pure functions from arrays to panels, one figure a file."""
