"""Print the table of a claim: ``python -m experiments.claims k3 multirun/DATE/TIME...``.

With ``--figure FILE`` it writes the claim's figure instead, if that claim has one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.terminal.console import exit_code, tell
from fedfuse.errors import ConfigError, did_you_mean

PICTURES = (".png", ".svg", ".pdf")
"""What a figure's file may end in."""
BAR = r"\|"
"""A bar in a cell of Markdown, where it would end the cell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 for a mistake."""
    return exit_code(_run, argv)


def _run(words: list[str]) -> int:
    from experiments.claims.tables import CLAIMS

    if "--figure" in words:
        return _draw(words)
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


def _draw(words: list[str]) -> int:
    """Write the figure of a claim: PNG, SVG or PDF, as the file's name says."""
    from experiments.claims.tables import FIGURES
    from experiments.report.export import SUFFIXES, write

    at = words.index("--figure")
    claim, *folders = [*words[:at], *words[at + 2 :]] or [""]
    file = Path(*words[at + 1 : at + 2])
    if claim not in FIGURES or not folders or file.suffix not in PICTURES:
        raise ConfigError(
            "The figure of a claim needs the claim, folders with runs and a file",
            got=" ".join(words),
            allowed=f"one of {', '.join(FIGURES)}, a folder or several, and a file that ends in "
            f"{', '.join(PICTURES)}",
        )
    kinds = {ending: kind for kind, ending in SUFFIXES.items()}
    write([FIGURES[claim](*map(Path, folders))], kinds[file.suffix], file)
    tell(f"wrote {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
