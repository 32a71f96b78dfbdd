"""Configuration, launching and reporting."""

import os

# Read by Flower and Ray when they are first imported. Who wants to send them sets them to 1.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
