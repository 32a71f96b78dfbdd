"""Each method's settings, chosen on validation data with one budget for all: ``fedfuse tune``."""
