"""Make sure that ``clients`` and ``server`` are fedfuse's own.

Flower's app bundles need the top-level packages under plain names, and another distribution, or a
folder before ours on the path, may bring a package of the same name.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fedfuse.errors import ConfigError

PACKAGES = ("fedfuse", "clients", "server")


def check_packages(home: Path = Path(__file__).parents[2]) -> None:
    """Refuse to start with somebody else's package.

    Args:
        home: The folder that holds this package and must hold the others.

    Raises:
        ConfigError: Naming the intruder and where it is.
    """
    for package in PACKAGES:
        spec = find_spec(package)
        found = [Path(path) for path in spec.submodule_search_locations or ()] if spec else []
        if not any(path.resolve() == (home / package).resolve() for path in found):
            raise ConfigError(
                f"The package '{package}' is not fedfuse's own",
                got=str(found[0]) if found else "no such package",
                allowed=str(home / package),
                next_step="Install fedfuse in its own environment.",
            )
