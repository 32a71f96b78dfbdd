"""Configuration, launching and reporting."""

import os
import sys

# Read by Flower and Ray when they are first imported. Who wants to send them sets them to 1.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Flower imports httpx, and httpx its command line with all of pygments' lexers: a tenth of a second
# on the way to the first step. Without it httpx says that its command line is not installed.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
