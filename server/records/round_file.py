"""A round's record as one safetensors file: tensors as tensors, the rest as JSON beside them."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save

from fedfuse.failure import Failure
from fedfuse.types import MetricRow, RoundRecord


def dump(record: RoundRecord) -> bytes:
    """Return the record as bytes; floats survive to the bit."""
    values = {
        "round": record.round,
        "metrics": [
            [r.round, r.client_id, str(r.phase), r.metric, r.value] for r in record.metrics
        ],
        "seconds": record.seconds,
        "failures": [asdict(failure) for failure in record.failures],
    }
    tensors = {f"right.{test}": bits for test, bits in (record.right or {}).items()}
    for name, tensor in (
        ("weights", record.weights),
        ("weight_clients", record.weight_clients),
        ("class_shares", record.class_shares),
    ):
        if tensor is not None:
            tensors[name] = tensor.contiguous().clone()
    return save(tensors, metadata={"record": json.dumps(values)})


def load(content: bytes) -> RoundRecord:
    """Return what :func:`dump` wrote.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, struct.error: If it is something else.
    """
    values = json.loads(_metadata(content)["record"])
    tensors = load_tensors(content)
    weights, owners = tensors.pop("weights", None), tensors.pop("weight_clients", None)
    shares = tensors.pop("class_shares", None)
    right = {name.removeprefix("right."): bits for name, bits in tensors.items()}
    seconds = {str(name): float(value) for name, value in values["seconds"].items()}
    flat = all(matrix is None or matrix.ndim == 2 for matrix in (weights, shares))
    if type(values["round"]) is not int or not flat:
        raise ValueError("no round's record")
    for rows_of in (owners, shares):
        if rows_of is not None and (weights is None or rows_of.shape[:1] != weights.shape[:1]):
            raise ValueError("no round's weights")
    failures = tuple(Failure(**failure) for failure in values["failures"])
    rows = tuple(_row(*row) for row in values["metrics"])
    return RoundRecord(
        values["round"],
        rows,
        weights,
        seconds,
        failures,
        right=right or None,
        weight_clients=owners,
        class_shares=shares,
    )


def _row(*fields: object) -> MetricRow:
    """Return a metric row of the right types."""
    round_, client_id, phase, metric, value = fields
    numbers = type(round_) is int and type(client_id) is int and type(value) in (float, int)
    if not (numbers and isinstance(phase, str) and isinstance(metric, str)):
        raise ValueError("no row of metrics")
    return MetricRow(round_, client_id, phase, metric, value)  # type: ignore[arg-type]


def _metadata(content: bytes) -> dict[str, Any]:
    """Return the text in the header; safetensors reads it from files only."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    return header["__metadata__"]  # type: ignore[no-any-return]
