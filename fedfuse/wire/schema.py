"""What a payload must hold, field by field, and the checks that it does.

Everything that arrives from another process passes through here before it is used; the first
thing that is wrong is reported with the field, and where it can be told the client, it is in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.payload.fields import (
    MOST_EXAMPLES,
    SIMPLEX_TOLERANCE,
    ArrayField,
    Bounds,
    Declared,
    TextField,
)
from fedfuse.payload.payload import is_for_all
from fedfuse.types import ClientMetrics
from fedfuse.wire.messages import ALL_SPENT

LONGEST_TEXT = 2**16
"""Bytes of a field of text."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What was asked for.

    Args:
        client_ids: The clients that should be in the payload, ascending.
        num_public: P.
        num_classes: C.
        sizes: What the exchange says of other dimensions: a size, or where a field declares
            lengths, one for each of these clients.
        asked: The fields that are there because the exchange asks for them.
    """

    client_ids: tuple[int, ...]
    num_public: int
    num_classes: int
    sizes: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()

    def known(self) -> dict[str, tuple[int, str]]:
        """Return the size of each dimension, and who says so."""
        sizes = {"P": self.num_public, "C": self.num_classes, **self.sizes}
        return {
            dim: (size if isinstance(size, int) else sum(size), "what was asked for")
            for dim, size in sizes.items()
        }


_DIMENSIONS = {
    "K": "clients",
    "P": "public samples",
    "C": "classes",
    "D": "numbers per class or sample",
    "M": "metrics",
    "O": "bytes, a bit per sample of a client's own test set",
    "G": "bytes, a bit per sample of the balanced test set",
}
"""What each dimension counts, in words."""


@cache
def numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    """Return NumPy's word for a type of torch."""
    return torch.empty(0, dtype=dtype).numpy().dtype


def check_names(
    what: str,
    arrays: Mapping[str, Any],
    fields: Mapping[str, Declared],
    expect: Expectation | None = None,
) -> None:
    """Raise unless every required field is there, what was asked for, and nothing else."""
    needed = {name for name, declared in fields.items() if not declared.optional}
    if expect is not None:
        needed |= expect.asked & fields.keys()
        fields = {n: f for n, f in fields.items() if n in needed or not _only_asked(f)}
    problems = [f"no '{name}'" for name in fields if name in needed and name not in arrays]
    problems += [f"an unknown {name!r}" for name in arrays if name not in fields]
    if problems:
        raise KnowledgeError(
            f"A payload of {what} does not have the right fields",
            got=", ".join(problems),
            allowed=", ".join(name if name in needed else f"[{name}]" for name in fields),
            next_step="Run the same version of fedfuse on every node.",
        )


def _only_asked(declared: Declared) -> bool:
    """Tell whether a field travels only where it is asked for."""
    return isinstance(declared.field, ArrayField) and declared.field.asked


def check_header(
    name: str, array: object, field: ArrayField | TextField, sizes: dict[str, tuple[int, str]]
) -> None:
    """Raise unless ``array`` is one, of the field's dtype and rank, as long as the others."""
    dtype = numpy_type(torch.uint8 if isinstance(field, TextField) else field.dtype)
    dims = ["bytes"] if isinstance(field, TextField) else field.dims.split()
    flat = isinstance(field, ArrayField) and field.lengths is not None
    expected = f"{dtype} [{', '.join(dims)}]"
    if not isinstance(array, np.ndarray):
        raise KnowledgeError(f"'{name}' is no array", got=type(array).__name__, allowed=expected)
    if array.dtype != dtype or array.ndim != len(dims):
        raise KnowledgeError(
            f"'{name}' has the wrong type or rank",
            got=f"{array.dtype} of shape {list(array.shape)}",
            allowed=expected,
        )
    for dim, size in zip(dims, array.shape, strict=True):
        if flat:  # as long as its lengths say: check_lengths
            continue
        if dim != "bytes":
            most = None if isinstance(field, TextField) else field.most
            check_size(dim, size, name, sizes, most)
        elif size > LONGEST_TEXT:
            raise KnowledgeError(
                f"'{name}' is too long", got=f"{size} bytes", allowed=f"at most {LONGEST_TEXT}"
            )


def check_size(
    dim: str, size: int, name: str, sizes: dict[str, tuple[int, str]], most: int | None = None
) -> None:
    """Raise if a dimension is empty or differs from what was seen before under its name."""
    first = int(dim) if dim.isdigit() else size
    known, source = sizes.setdefault(
        dim, (first, "its declaration" if dim.isdigit() else f"'{name}'")
    )
    if size != known:
        what = _DIMENSIONS.get(dim, f"elements along {dim}")
        raise KnowledgeError(
            f"'{name}' has the wrong number of {what}",
            got=f"{size}",
            allowed=f"{known}, as {source} has it",
        )
    if most is not None and size > most:
        raise KnowledgeError(f"'{name}' is too long", got=f"{size}", allowed=f"{most}")
    if size == 0 and dim != "M":
        raise KnowledgeError(f"'{name}' is empty", got=f"{dim} = 0", allowed="at least 1")


def check_ids(client_ids: Tensor, expect: Expectation | None) -> None:
    """Raise unless the ids ascend from 0 or more and are the ones that were asked for."""
    ids = client_ids.tolist()
    if ids[0] < 0 or bool((client_ids[1:] <= client_ids[:-1]).any()):
        raise KnowledgeError(
            "'client_ids' do not ascend", got=ids[:20], allowed="distinct ids from 0 upwards"
        )
    if expect is not None and ids != list(expect.client_ids):
        raise KnowledgeError(
            "The payload is not from the clients that were asked",
            got=f"client ids {ids[:20]}",
            allowed=f"client ids {list(expect.client_ids[:20])}",
        )


def check_values(name: str, tensor: Tensor, bounds: Bounds, client_ids: Tensor) -> None:
    """Raise unless the numbers of a field mean what the field promises, naming the client."""
    rows = tensor.reshape(len(tensor), -1)
    if not _within(tensor[:1] if is_for_all(tensor) else tensor, bounds):
        _blame_values(name, rows, bounds, client_ids)
    if bounds.sum_to_one:
        off = (tensor.sum(dim=-1) - 1).abs() > SIMPLEX_TOLERANCE
        allowed = "probabilities that sum to 1"
        _blame(name, off.reshape(len(off), -1), client_ids, "rows with another sum", allowed)


def _within(tensor: Tensor, bounds: Bounds) -> bool:
    """Tell whether all numbers are finite and within bounds, in one pass over them.

    The least and the largest number say it all: either is NaN if any number is. To ask every
    number whether it is finite takes twenty times as long.
    """
    if tensor.numel() == 0 or tensor.dtype == torch.bool:
        return True
    low, high = (float(extreme) for extreme in torch.aminmax(tensor))
    return (
        bounds.least <= low and high <= bounds.most and math.isfinite(low) and math.isfinite(high)
    )


def _blame_values(name: str, rows: Tensor, bounds: Bounds, client_ids: Tensor) -> None:
    """Raise for what is wrong in [K, values], if anything is."""
    least, most, rows = bounds.least, bounds.most, rows.double()  # a bound may not fit their type
    if bounds.may_be_nan:
        _blame(name, torch.isinf(rows), client_ids, "not finite", "numbers, or NaN for none")
        rows = rows.nan_to_num(min(max(0.0, least), most))
    else:
        _blame(name, ~torch.isfinite(rows), client_ids, "not finite", "finite numbers")
    large = rows.abs() > most if least == -most else rows > most
    allowed = f"at most {most} {bounds.unit}" if bounds.unit else f"numbers up to {most:g}"
    _blame(name, large, client_ids, "too large", allowed)
    sign = -SIMPLEX_TOLERANCE <= least <= 0
    what, from_ = ("negative", 0.0) if sign else ("too small", least)
    _blame(name, rows < least, client_ids, what, f"numbers from {from_:g} upwards")


def check_metrics(metrics: ClientMetrics) -> None:
    """Raise unless a client's metrics can be what it measured: a client's own word, within reason.

    Raises:
        KnowledgeError: For more or longer names than anybody needs, an accuracy that is no share,
            or none on the balanced test set, which everybody has.
    """
    if len(metrics.names) > MOST_METRICS or any(len(n) > LONGEST_NAME for n in metrics.names):
        raise KnowledgeError(
            "The metrics have more or longer names than anybody needs",
            got=f"{len(metrics.names)} names",
            allowed=f"{MOST_METRICS} names of {LONGEST_NAME} characters",
        )
    for column, name in enumerate(metrics.names):
        values = metrics.values[:, column, None]
        if name == "test_samples_own":
            wrong = (values < 0) | (values > MOST_EXAMPLES)
            _blame(name, wrong, metrics.client_ids, "no number", "numbers from 0")
        if name in ALL_SPENT:
            wrong = ~((values >= 0) & (values <= MOST_EXAMPLES))
            _blame(name, wrong, metrics.client_ids, "no number", "numbers from 0")
        if name.startswith("accuracy_"):
            wrong = (values < 0) | (values > 1)
            _blame(name, wrong, metrics.client_ids, "no share", "numbers from 0 to 1")
        if name == "accuracy_global":
            none = values.isnan()
            _blame(name, none, metrics.client_ids, "NaN", "numbers, as all have this test")


MOST_METRICS, LONGEST_NAME = 256, 100
"""Metrics of a client, and characters of their names."""


def check_flat(
    name: str,
    values: Tensor,
    field: ArrayField,
    found: Mapping[str, Tensor],
    expect: Expectation | None,
) -> None:
    """Raise unless a flat field is as long as it says and as was asked, within bounds."""
    assert field.lengths is not None
    lengths = found[field.lengths].tolist()
    asked = None if expect is None else expect.sizes.get(field.dims)
    allowed = list(asked) if isinstance(asked, tuple) else lengths
    if field.may_be_empty:
        allowed = [size and most for size, most in zip(lengths, allowed, strict=True)]
    if lengths != allowed or sum(lengths) != len(values):
        raise KnowledgeError(
            f"'{name}' has other lengths than were asked for",
            got=f"{lengths[:20]} numbers per client, {len(values)} in all",
            allowed=f"{allowed[:20]} numbers per client, {sum(allowed)} in all",
            next_step="Give every node the same model configuration.",
        )
    client_ids, wrong = found["client_ids"], []
    for row, part in enumerate(torch.split(values, lengths)):
        try:
            if len(part):
                check_values(name, part.unsqueeze(0), field.bounds, client_ids[row : row + 1])
        except KnowledgeError as error:
            wrong.append(error)
    if wrong:
        wrong[0].client_ids = tuple(i for error in wrong for i in error.client_ids)
        raise wrong[0]


def _blame(name: str, wrong: Tensor, client_ids: Tensor, what: str, allowed: str) -> None:
    """Raise for the first client with a wrong value in [K, values]."""
    if not bool(wrong.any()):
        return
    counts = wrong.sum(dim=1)
    first = int(counts.nonzero()[0])
    error = KnowledgeError(
        f"'{name}' of client {int(client_ids[first])} holds impossible values",
        got=f"{int(counts[first])} of {wrong.shape[1]} {what}",
        allowed=allowed,
        next_step="If its training diverged, lower optimizer.lr." if what == "not finite" else None,
    )
    error.client_ids = tuple(client_ids[counts > 0].tolist())
    raise error
