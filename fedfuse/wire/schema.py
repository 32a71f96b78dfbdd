"""What a payload must hold, field by field, and the checks that it does.

Everything that arrives from another process passes through here before it is used; the first
thing that is wrong is reported with the field, and where it can be told the client, it is in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.payloads import ClassKnowledge, ModelBank
from fedfuse.types import ClientMetrics, KnowledgeBank, Space, Teachers
from fedfuse.wire.messages import SPENT

SIMPLEX_TOLERANCE = 1e-3
"""How far a row of probabilities may be from summing to 1; what float16 codecs need."""

LARGEST_LOGIT = 1e9
"""Beyond it one finite number makes sums of squares, and so everybody's teacher, infinite."""

MOST_EXAMPLES = 2**40
"""The most samples that a client may claim to have; sums of such claims stay within int64."""

_BOUNDS = {
    "logits": (-LARGEST_LOGIT, LARGEST_LOGIT),
    "count": (0, MOST_EXAMPLES),
    "not negative": (0, math.inf),
    "simplex": (-SIMPLEX_TOLERANCE, math.inf),  # rounding may leave a hair below 0
}
"""Between what the numbers of a field must be, by what they mean."""

LONGEST_TEXT = 2**16
"""Bytes of a field of text."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What was asked for.

    Args:
        client_ids: The clients that should be in the payload, ascending.
        num_public: P.
        num_classes: C.
        width: D, numbers per class; None where the payload has none.
        model_sizes: Numbers in each client's model; empty where no models were asked for.
    """

    client_ids: tuple[int, ...]
    num_public: int
    num_classes: int
    width: int | None = None
    model_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ArrayField:
    """A tensor field: its dtype, the names of its dimensions, and what its numbers must be."""

    dtype: type[np.generic]
    dims: str
    optional: bool = False
    values: str = ""  # "", "count", "logits", "not negative", "simplex" or "metrics"


@dataclass(frozen=True, slots=True)
class TextField:
    """A field of text: a ``Space``, or a tuple of names."""

    kind: type[Space] | type[tuple[str, ...]]


_IDS = ArrayField(np.int64, "K")
FIELDS: dict[type, dict[str, ArrayField | TextField]] = {
    KnowledgeBank: {
        "client_ids": _IDS,
        "logits": ArrayField(np.float32, "K P C", values="logits"),
        "num_examples": ArrayField(np.int64, "K", values="count"),
        "class_distribution": ArrayField(np.float32, "K C", optional=True, values="simplex"),
        "mask": ArrayField(np.bool_, "K P", optional=True),
        "confidence": ArrayField(np.float32, "K P", optional=True),
    },
    Teachers: {
        "client_ids": _IDS,
        "targets": ArrayField(np.float32, "K P C"),
        "space": TextField(Space),
        "sample_weight": ArrayField(np.float32, "K P", optional=True, values="not negative"),
    },
    ClassKnowledge: {
        "client_ids": _IDS,
        "values": ArrayField(np.float32, "K C D"),
        "present": ArrayField(np.bool_, "K C"),
        "num_examples": ArrayField(np.int64, "K C", optional=True, values="count"),
    },
    ModelBank: {
        "client_ids": _IDS,
        "num_examples": ArrayField(np.int64, "K", values="count"),
        "sizes": ArrayField(np.int64, "K", values="not negative"),
        "values": ArrayField(np.float32, "N", values="per model"),
    },
    ClientMetrics: {
        "client_ids": _IDS,
        "names": TextField(tuple),
        "values": ArrayField(np.float64, "K M", values="metrics"),
        "right_own": ArrayField(np.uint8, "K O", optional=True),
        "right_global": ArrayField(np.uint8, "K G", optional=True),
    },
}


_DIMENSIONS = {
    "K": "clients",
    "P": "public samples",
    "C": "classes",
    "D": "numbers per class",
    "N": "numbers",
    "M": "metrics",
    "O": "bytes, a bit per sample of a client's own test set",
    "G": "bytes, a bit per sample of the balanced test set",
}
"""What each dimension counts, in words."""

_MOST = {"O": 2**20, "G": 2**20}
"""The largest size of a dimension that nobody asked for by number: bits of 8 million tests."""


def check_names(what: str, arrays: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise unless every required field is there and nothing else."""
    needed = {n for n, f in fields.items() if isinstance(f, TextField) or not f.optional}
    problems = [f"no '{name}'" for name in fields if name in needed and name not in arrays]
    problems += [f"an unknown {name!r}" for name in arrays if name not in fields]
    if problems:
        raise KnowledgeError(
            f"A payload of {what} does not have the right fields",
            got=", ".join(problems),
            allowed=", ".join(name if name in needed else f"[{name}]" for name in fields),
            next_step="Run the same version of fedfuse on every node.",
        )


def check_header(
    name: str, array: object, field: ArrayField | TextField, sizes: dict[str, tuple[int, str]]
) -> None:
    """Raise unless ``array`` is one, of the field's dtype and rank, as long as the others."""
    dtype = np.dtype(np.uint8 if isinstance(field, TextField) else field.dtype)
    dims = ["bytes"] if isinstance(field, TextField) else field.dims.split()
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
        if dim != "bytes":
            check_size(dim, size, name, sizes)
        elif size > LONGEST_TEXT:
            raise KnowledgeError(
                f"'{name}' is too long", got=f"{size} bytes", allowed=f"at most {LONGEST_TEXT}"
            )


def check_size(dim: str, size: int, name: str, sizes: dict[str, tuple[int, str]]) -> None:
    """Raise if a dimension is empty or differs from what was seen before under its name."""
    known, source = sizes.setdefault(dim, (size, f"'{name}'"))
    if size != known:
        what = _DIMENSIONS[dim]
        raise KnowledgeError(
            f"'{name}' has the wrong number of {what}",
            got=f"{size}",
            allowed=f"{known}, as {source} has it",
        )
    if size > _MOST.get(dim, size):
        raise KnowledgeError(f"'{name}' is too long", got=f"{size}", allowed=f"{_MOST[dim]}")
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


def check_values(name: str, tensor: Tensor, values: str, client_ids: Tensor) -> None:
    """Raise unless the numbers of a field mean what the field promises, naming the client."""
    rows = tensor.reshape(len(tensor), -1)
    if not _within(tensor, *_BOUNDS.get(values, (-math.inf, math.inf))):
        _blame_values(name, rows, values, client_ids)
    if values == "simplex":
        off = (tensor.sum(dim=-1) - 1).abs() > SIMPLEX_TOLERANCE
        allowed = "probabilities that sum to 1"
        _blame(name, off.reshape(len(off), -1), client_ids, "rows with another sum", allowed)


def _within(tensor: Tensor, least: float, most: float) -> bool:
    """Tell whether all numbers are finite and within bounds, in one pass over them.

    The least and the largest number say it all: either is NaN if any number is. To ask every
    number whether it is finite takes twenty times as long.
    """
    if tensor.numel() == 0 or tensor.dtype == torch.bool:
        return True
    low, high = (float(extreme) for extreme in torch.aminmax(tensor))
    return least <= low and high <= most and math.isfinite(low) and math.isfinite(high)


def _blame_values(name: str, rows: Tensor, values: str, client_ids: Tensor) -> None:
    """Raise for what is wrong in [K, values], if anything is."""
    if values == "metrics":  # what a client has no data for is NaN
        _blame(name, torch.isinf(rows), client_ids, "not finite", "numbers, or NaN for none")
        return
    _blame(name, ~torch.isfinite(rows), client_ids, "not finite", "finite numbers")
    least, most = _BOUNDS.get(values, (-math.inf, math.inf))
    allowed = f"at most {most} samples" if values == "count" else f"numbers up to {most:g}"
    _blame(name, rows.abs() > most, client_ids, "too large", allowed)
    _blame(name, rows < least, client_ids, "negative", "numbers from 0 upwards")


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
        if name in SPENT:
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


def check_models(
    sizes: Tensor, values: Tensor, client_ids: Tensor, expect: Expectation | None
) -> None:
    """Raise unless flat model vectors are as long as they say and as was asked, and finite."""
    allowed = list(sizes.tolist() if expect is None else expect.model_sizes)
    if sizes.tolist() != allowed or int(sizes.sum()) != len(values):
        raise KnowledgeError(
            "The models that arrived have other sizes than the clients' models",
            got=f"{sizes.tolist()[:20]} numbers per client, {len(values)} in all",
            allowed=f"{allowed[:20]} numbers per client, {sum(allowed)} in all",
            next_step="Give every node the same model configuration.",
        )
    finite = [vector.isfinite().all() for vector in torch.split(values, allowed)]
    _blame("values", ~torch.stack(finite)[:, None], client_ids, "not finite", "finite numbers")


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
