"""What a client learns: the steps of a phase, its samples, its tests."""
