"""A partition to look at, in plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from fedfuse.partition.stats import PartitionStats
from fedfuse.types import IntArray

_SHADES = ".░▒▓█"
_MOST_ROWS = 20


def preview(counts: IntArray, class_names: Sequence[str] | None = None, width: int = 80) -> str:
    """Return a table of who has how many of what, at most ``width`` columns wide.

    One row per client; of more than 20 clients the first 10 and the last 10. Where the numbers do
    not fit, each class is one shade of its share in the client's data; where not even that fits,
    neighbouring classes share one.

    Args:
        counts: int64 [K, C], samples per client and class.
        class_names: C names for the heading; class ids if None.
        width: Columns of the terminal, at least 40.

    >>> print(preview(np.array([[120, 0], [30, 45]]), ["cat", "dog"]))
    client  samples  effective  cat  dog
         0      120        1.0  120    .
         1       75        2.0   30   45
    2 clients, 195 samples (75 to 120 each), mean distance 0.60
    """
    stats = PartitionStats(counts)
    num_clients, num_classes = counts.shape
    names = [str(c) for c in range(num_classes)] if class_names is None else list(class_names)
    left = ["client  samples  effective"]
    measured = zip(stats.sizes, stats.effective_classes, strict=True)
    left += [f"{k:>6}  {n:>7}  {e:>9.1f}" for k, (n, e) in enumerate(measured)]
    width = max(width, 40)
    room = width - len(left[0])
    shown = np.arange(num_clients)
    if num_clients > _MOST_ROWS:
        shown = np.r_[: _MOST_ROWS // 2, num_clients - _MOST_ROWS // 2 : num_clients]
    digits = len(str(counts.max()))
    if (digits + 1) * num_classes < room:
        heading, cells = _numbers(counts[shown], names, digits, room)
        legend = ""
    else:
        heading, cells, legend = _heat(counts[shown], room - 2)
    rows = [left[k + 1] + cell for k, cell in zip(shown, cells, strict=True)]
    if num_clients > _MOST_ROWS:
        hidden = num_clients - _MOST_ROWS
        rows.insert(_MOST_ROWS // 2, f"   ...  ({hidden} more clients)")
    sizes = stats.sizes
    foot = (
        f"{num_clients} clients, {sizes.sum()} samples ({sizes.min()} to {sizes.max()} each), "
        f"mean distance {stats.mean_distance:.2f}"
    )
    notes = textwrap.wrap(legend, width) + textwrap.wrap(foot, width)
    return "\n".join([left[0] + heading, *rows, *notes])


def _numbers(
    counts: IntArray, names: Sequence[str], digits: int, room: int
) -> tuple[str, list[str]]:
    """Return the heading and the rows of a table of numbers, a dot for none."""
    widest = max(digits, *(len(name) for name in names))
    gap = 2 if (digits + 2) * len(names) <= room else 1
    cell = min(widest, room // len(names) - gap)
    heading = "".join(f"{'':{gap}}{name[:cell]:>{cell}}" for name in names)
    rows = ["".join(f"{'':{gap}}{n or '.':>{cell}}" for n in row) for row in counts]
    return heading, rows


def _heat(counts: IntArray, room: int) -> tuple[str, list[str], str]:
    """Return the heading, the rows and the legend of a map of shares, one shade each."""
    num_classes = counts.shape[1]
    per_shade = -(-num_classes // room)
    starts = np.arange(0, num_classes, per_shade)
    shares = np.add.reduceat(counts, starts, axis=1) / counts.sum(axis=1, keepdims=True)
    # Square roots: with many classes most shares are small, and should still be told apart.
    steps = len(_SHADES) - 1
    level = np.ceil(np.sqrt(shares / shares.max()) * steps).astype(np.int64)
    rows = ["  " + "".join(_SHADES[i] for i in row) for row in level]
    heading = f"  classes 0 to {num_classes - 1}"
    bounds = [100 * shares.max() * (i / steps) ** 2 for i in range(1, steps + 1)]
    marks = [
        f"{shade} to {bound:.{int(bound < 10)}f}%"
        for shade, bound in zip(_SHADES[1:], bounds, strict=True)
    ]
    grouped = f", {per_shade} classes each" if per_shade > 1 else ""
    legend = f"share: {_SHADES[0]} none  {'  '.join(marks)}{grouped}"
    return heading[: room + 2], rows, legend
