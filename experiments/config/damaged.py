"""What to tell of a run folder in which a file is not what fedfuse wrote, and what to do then."""

from __future__ import annotations

from pathlib import Path

from fedfuse.errors import ConfigError

RESTORE = (
    "Restore it from a copy; or remove the folder and run it again, which a map or a sweep that "
    "goes on does by itself."
)


def damaged(folder: Path, error: Exception) -> ConfigError:
    """Return the message about a file of a run folder that cannot be read."""
    return ConfigError(
        f"the run folder '{folder}' is damaged",
        got=" ".join(f"{type(error).__name__}: {error}".split())[:200],
        next_step=RESTORE,
    )
