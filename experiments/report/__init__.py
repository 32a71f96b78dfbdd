"""The ``fedfuse-report`` command: what runs, sweeps and maps found, as one page or as files."""
