"""Packages that only some users install."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from fedfuse.errors import ConfigError


def require_extra(extra: str, modules: Sequence[str]) -> None:
    """Refuse to go on without the modules of an extra; nothing is imported.

    Raises:
        ConfigError: With the command that installs them.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"reporter={extra} needs the package '{missing[0]}', which is not installed.",
            next_step=f"Install it with: pip install -c constraints.txt -e '.[{extra}]'",
        )
