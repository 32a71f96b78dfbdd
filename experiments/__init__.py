"""Configuration, launching and reporting."""
