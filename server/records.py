"""A round's record as one safetensors file: the weights as a tensor, the rest as JSON beside it."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save

from fedfuse.messages import Failure
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
    tensors = {} if record.weights is None else {"weights": record.weights.contiguous().clone()}
    return save(tensors, metadata={"record": json.dumps(values)})


def load(content: bytes) -> RoundRecord:
    """Return what :func:`dump` wrote.

    Raises:
        ValueError, KeyError, TypeError: If it is something else.
    """
    values = json.loads(_metadata(content)["record"])
    return RoundRecord(
        values["round"],
        tuple(MetricRow(*row) for row in values["metrics"]),
        load_tensors(content).get("weights"),
        values["seconds"],
        tuple(Failure(**failure) for failure in values["failures"]),
    )


def _metadata(content: bytes) -> dict[str, Any]:
    """Return the text in the header; safetensors reads it from files only."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    return header["__metadata__"]  # type: ignore[no-any-return]
