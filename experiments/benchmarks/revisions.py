"""``revisions``: this revision against another one's tree, in turns, so that both meet one machine.

``python -m experiments.benchmarks revisions --old DIR``. Ratios are of processor time (user and
system, children included), which other programs on the machine disturb less than wall time.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.benchmarks.rows import Arguments, Row, in_turns, row
from experiments.benchmarks.startup import FIRST_STEP

HERE = Path(__file__).parents[2]
COMMAND = "import sys; from experiments.run import main; sys.exit(main(sys.argv[1:]))"
LINES = ("baseline=none",)
BAR = 1.05
"""How much slower this revision may be."""


def measure(args: Arguments) -> list[Row]:
    """Return, for each task, the median ratio of this revision's processor time to the other's."""
    if args.old is None:
        note = "which tree? --old DIR holds the other revision"
        return [row("revisions", "revisions", "this revision / the other", None, "x", note=note)]
    old, repeats = args.old.resolve(), max(5, args.repeats)
    rows = [
        _compare("help", "fedfuse --help", COMMAND, ["--help"], old, repeats),
        _compare("first_step", "command to first training step", FIRST_STEP, [], old, repeats),
    ]
    few, many = (
        _seconds_of(COMMAND, [*LINES, f"num_rounds={rounds}"], old, 3) for rounds in (2, 5)
    )
    rounds = {
        side: [(b - a) / 3 for a, b in zip(few[side], many[side], strict=True)] for side in few
    }
    return [*rows, _row("round", "a round of the default job", rounds)]


def _compare(key: str, what: str, program: str, lines: list[str], old: Path, repeats: int) -> Row:
    return _row(key, what, _seconds_of(program, lines, old, repeats))


def _row(key: str, what: str, seconds: dict[str, list[float]]) -> Row:
    """Return the median of the pairs' ratios, with the lowest and the highest beside it.

    >>> _row("help", "h", {"new": [1.0, 2.0, 4.0], "old": [1.0, 1.0, 1.0]})["value"]
    2.0
    """
    pairs = zip(seconds["new"], seconds["old"], strict=True)
    ratios = sorted(new / old for new, old in pairs)
    new, old = (statistics.median(seconds[side]) for side in ("new", "old"))
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} over {len(ratios)} pairs"
    note = f"{spread}; {new:.2f} s, was {old:.2f} s"
    value = statistics.median(ratios)
    return row("revisions", key, f"{what}: now / before", value, "x", bar=BAR, note=note)


def _seconds_of(program: str, lines: list[str], old: Path, repeats: int) -> dict[str, list[float]]:
    """Return processor seconds of both revisions, whose processes alternate."""
    return in_turns(
        {
            "old": lambda: _processor_seconds(program, lines, old),
            "new": lambda: _processor_seconds(program, lines, HERE),
        },
        repeats,
    )


def _processor_seconds(program: str, lines: list[str], tree: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", program, *lines],
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
