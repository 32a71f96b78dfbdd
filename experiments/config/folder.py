"""Where the configuration lies, the user's own beside it, and the order of options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fedfuse.errors import ConfigError

CONF = Path(__file__).parents[1] / "conf"

PATH = re.compile(r"(?:.*_)?(?:path|file|folder|dir|root|credential)s?")
"""The last word of a key whose value is a path."""


def natural(word: str) -> list[Any]:
    """Return the key that sorts k2 before k10.

    >>> sorted(["k10", "guard", "k2"], key=natural)
    ['guard', 'k2', 'k10']
    """
    parts = re.split(r"(\d+)", word)  # text and digits in turns, text first, be it empty
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def check_own(config_dir: Path, loader: Any = None) -> None:
    """Refuse a configuration folder of the user's that cannot be read as one.

    Args:
        config_dir: The folder.
        loader: A loader of PyYAML's; its safe one if None.

    Raises:
        ConfigError: If it is no folder, or a file in it is no YAML or has the name of an option of
            fedfuse's own.
    """
    import yaml

    if not config_dir.is_dir():
        raise ConfigError(
            "--config-dir is not a folder",
            got=str(config_dir),
            next_step="Name the folder that holds your groups, such as DIR/partitioner/.",
        )
    for file in sorted(config_dir.glob("*/*.yaml")):
        if (CONF / file.parent.name / file.name).exists():
            raise ConfigError(
                f"'{file}' has the name of an option of fedfuse's own.",
                next_step="Rename it, so that a command means the same everywhere.",
            )
        try:
            text = file.read_text(encoding="utf-8")
            read = yaml.load(text, loader or yaml.SafeLoader)  # noqa: S506 - safe, or OmegaConf's
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise unreadable(file, error, "Mend it, or take it out of the folder.") from error
        if not isinstance(read, dict | None):
            raise ConfigError(
                f"'{file}' is no option of a group",
                got=f"a {type(read).__name__}",
                allowed="lines of KEY: VALUE",
            )


def unreadable(file: Path, error: Exception, next_step: str) -> ConfigError:
    """Return what to tell of a file that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    where = f" in line {mark.line + 1}" if mark else ""
    return ConfigError(
        f"'{file}' cannot be read as YAML{where}: {' '.join(str(why).split())}.",
        next_step=next_step,
    )
