"""An adaptive range coder: frequent symbols take less than a bit, and nothing is sent beside them.

Sender and receiver count the symbols as they pass and cut an interval in proportion to the counts
(Krichevsky and Trofimov's estimate: half a symbol seen of each before the start). The code is a
number in the last interval. Symbols follow one another, but all clients step together, so one
pass serves a whole federation. The interval's arithmetic is the carry-free one: where its ends
disagree in their first byte and it has become too narrow to go on, it is cut at the border.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedfuse.errors import KnowledgeError

U64 = npt.NDArray[np.uint64]
MAX_ALPHABET = 2**14

_ONE = np.uint64(1)
_BYTE = np.uint64(8)
_HEAD = np.uint64(56)
_TOP = np.uint64(2**56)
_BOTTOM = np.uint64(2**48)
_MAX_TOTAL = 2**16
_SEEN = np.uint64(2)  # in halves of a symbol


def encode(
    symbols: npt.NDArray[np.integer], lengths: npt.NDArray[np.int64], alphabet: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Write the first ``lengths[i]`` symbols of each row.

    Args:
        symbols: [k, N], from 0 to ``alphabet - 1``.
        lengths: [k], at most N.
        alphabet: Number of different symbols.

    Returns:
        The bytes of all rows, one after the other, and the bytes of each row [k].

    >>> data, sizes = encode(np.zeros((1, 1000), dtype=np.int64), np.array([1000]), alphabet=10)
    >>> sizes
    array([5])
    >>> bool((decode(data, sizes, np.array([1000]), alphabet=10) == 0).all())
    True
    """
    order, active = _longest_first(lengths, alphabet)
    symbols, ids = symbols[order].astype(np.int64), np.arange(len(order))
    low, width, counts = _start(len(order), alphabet)
    rows: list[npt.NDArray[np.int64]] = []
    data: list[npt.NDArray[np.uint8]] = []
    for step, n in enumerate(active):
        upper = counts[:n].cumsum(axis=1)
        entry = ids[:n] * alphabet + symbols[:n, step]
        count = counts.reshape(-1)[entry]
        unit = width[:n] // upper[:, -1]
        low[:n] += unit * (upper.reshape(-1)[entry] - count)
        width[:n] = unit * count
        _learn(counts, entry, upper[:, -1], step)
        while len(ready := _ready(low[:n], width[:n])):
            rows.append(ready)
            data.append((low[ready] >> _HEAD).astype(np.uint8))
            _shift(low, width, ready)
    for last in _shortest(low, width):
        rows.append(last[0])
        data.append(last[1])
    client = order[np.concatenate(rows)] if rows else np.zeros(0, dtype=np.int64)
    sizes = np.bincount(client, minlength=len(order))
    stream = np.concatenate(data) if data else np.zeros(0, dtype=np.uint8)
    return stream[np.argsort(client, kind="stable")], sizes.astype(np.int64)


def decode(
    data: npt.NDArray[np.uint8],
    sizes: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    alphabet: int,
) -> npt.NDArray[np.int64]:
    """Read what :func:`encode` wrote: symbols [k, max(lengths)], zeros behind each row's end."""
    order, active = _longest_first(lengths, alphabet)
    ids = np.arange(len(order))
    # Behind the end of the stream there is nothing but zeros, as the writer presumed.
    data = np.append(data, np.uint8(0))
    ends = sizes.cumsum()[order]
    place = ends - sizes[order]
    code = np.zeros(len(order), dtype=np.uint64)

    def feed(rows: npt.NDArray[np.int64]) -> None:
        byte = data[np.where(place[rows] < ends[rows], place[rows], len(data) - 1)]
        code[rows] = (code[rows] << _BYTE) | byte.astype(np.uint64)
        place[rows] += 1

    for _ in range(8):
        feed(ids)
    low, width, counts = _start(len(order), alphabet)
    symbols = np.zeros((len(order), len(active)), dtype=np.int64)
    for step, n in enumerate(active):
        upper = counts[:n].cumsum(axis=1)
        unit = width[:n] // upper[:, -1]
        # The last interval also owns what division left over.
        point = np.minimum((code[:n] - low[:n]) // unit, upper[:, -1] - _ONE)
        symbol = (upper <= point[:, None]).sum(axis=1)
        entry = ids[:n] * alphabet + symbol
        count = counts.reshape(-1)[entry]
        low[:n] += unit * (upper.reshape(-1)[entry] - count)
        width[:n] = unit * count
        _learn(counts, entry, upper[:, -1], step)
        while len(ready := _ready(low[:n], width[:n])):
            feed(ready)
            _shift(low, width, ready)
        symbols[:n, step] = symbol
    back = np.empty_like(symbols)
    back[order] = symbols
    return back


def _longest_first(
    lengths: npt.NDArray[np.int64], alphabet: int
) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Return the rows by falling length, and how many of them are still on at each step."""
    if not 1 <= alphabet <= MAX_ALPHABET:
        raise KnowledgeError(
            "The entropy coder cannot count that many different symbols",
            got=alphabet,
            allowed=f"at most {MAX_ALPHABET}",
            next_step="Set codec.entropy_coded=false.",
        )
    order = np.argsort(-lengths, kind="stable")
    steps = np.arange(int(lengths.max(initial=0)))
    return order, (lengths[:, None] > steps).sum(axis=0).tolist()


def _start(rows: int, alphabet: int) -> tuple[U64, U64, U64]:
    """Return the first interval of each row, its lower end and width, and the first counts."""
    low = np.zeros(rows, dtype=np.uint64)
    width = np.full(rows, 2**64 - 1, dtype=np.uint64)
    return low, width, np.ones((rows, alphabet), dtype=np.uint64)


def _learn(counts: U64, entry: npt.NDArray[np.int64], total: U64, step: int) -> None:
    """Count a symbol of each row; halve the counts of a row before they outgrow the arithmetic."""
    counts.reshape(-1)[entry] += _SEEN
    if counts.shape[1] + int(_SEEN) * (step + 1) <= _MAX_TOTAL:
        return  # no row can have that many yet
    full = np.flatnonzero(total + _SEEN > _MAX_TOTAL)
    counts[full] = (counts[full] + _ONE) >> _ONE


def _ready(low: U64, width: U64) -> npt.NDArray[np.int64]:
    """Return the rows whose first byte is settled, having cut the ones that are too narrow."""
    narrow = np.flatnonzero(width <= _TOP)  # no wider interval has one first byte
    if not len(narrow):
        return narrow
    start, size = low[narrow], width[narrow]
    settled = (start ^ (start + size - _ONE)) < _TOP
    stuck = ~settled & (size < _BOTTOM)
    if stuck.any():
        width[narrow[stuck]] = _BOTTOM - (start[stuck] & (_BOTTOM - _ONE))
    return narrow[settled | stuck]


def _shift(low: U64, width: U64, rows: npt.NDArray[np.int64]) -> None:
    """Drop the first byte of the rows' intervals."""
    low[rows] <<= _BYTE
    # A width of exactly 2**56 would overflow to zero.
    width[rows] = np.minimum(width[rows], _TOP - _ONE) << _BYTE


def _shortest(low: U64, width: U64) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
    """Return the fewest bytes whose number, followed by zeros, lies in each row's interval."""
    written: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]] = []
    open_rows = np.flatnonzero(low > 0)
    number = np.zeros_like(low)
    needed = np.zeros(len(low), dtype=np.int64)
    for length in range(1, 9):
        rest = np.uint64(2 ** (64 - 8 * length) - 1)
        rounded = (low[open_rows] + rest) & ~rest
        # An overflow of the sum rounds to zero, which lies below the interval.
        fits = (rounded >= low[open_rows]) & (rounded - low[open_rows] < width[open_rows])
        number[open_rows[fits]] = rounded[fits]
        needed[open_rows[fits]] = length
        open_rows = open_rows[~fits]
    for length in range(8):
        rows = np.flatnonzero(needed > length)
        shift = np.uint64(56 - 8 * length)
        written.append((rows, (number[rows] >> shift).astype(np.uint8)))
    return written
