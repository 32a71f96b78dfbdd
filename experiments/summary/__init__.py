"""The numbers and words that close a run."""
