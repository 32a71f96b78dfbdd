"""From what the user typed to one checked configuration."""
