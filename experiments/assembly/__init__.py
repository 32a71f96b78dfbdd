"""From a configuration to the parts of a run, and whether they go together."""
