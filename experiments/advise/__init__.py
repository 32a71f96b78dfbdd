"""The ``fedfuse-advise`` command: should these clients fuse, before it has been trained."""
