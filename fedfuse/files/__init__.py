"""Files that others may have written: opened with care, and never more than was announced."""
