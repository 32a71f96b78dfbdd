"""Print the table of a claim: ``python -m experiments.claims k3 multirun/DATE/TIME...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.terminal.console import exit_code, tell
from fedfuse.errors import ConfigError, did_you_mean

BAR = r"\|"
"""A bar in a cell of Markdown, where it would end the cell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 for a mistake."""
    return exit_code(_run, argv)


def _run(words: list[str]) -> int:
    from experiments.claims.tables import CLAIMS

    if len(words) < 2 or words[0] not in CLAIMS:
        near = did_you_mean(words[0], CLAIMS) if words else None
        raise ConfigError(
            "The table of a claim needs the claim and folders with runs",
            got=" ".join(words) or "nothing",
            allowed=f"one of {', '.join(CLAIMS)}, and the folders of sweeps",
            next_step=f"Did you mean '{near}'?" if near and near not in words else None,
        )
    first = True
    for row in list(CLAIMS[words[0]](*map(Path, words[1:]))):
        if len(row) == 1:
            tell(f"\n{row[0]}\n" if row[0] else "")
            first = True
            continue
        tell(f"| {' | '.join(cell.replace('|', BAR) for cell in row)} |")
        if first:
            tell(f"|{'---|' * len(row)}")
            first = False
    return 0


if __name__ == "__main__":
    sys.exit(main())
