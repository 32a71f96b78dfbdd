"""What may travel between clients and server: frozen dataclasses that declare their fields.

A payload says of each field what it must hold: the names of its dimensions, its type and the bounds
of its numbers. Everything else is derived from that: how it is written and read, what is refused on
arrival (:mod:`fedfuse.wire`), how clients are joined and divided, and how many bytes count.

>>> from dataclasses import dataclass
>>> from typing import Annotated
>>> import torch
>>> @dataclass(frozen=True, slots=True)
... class Means(Payload):
...     soft: Annotated[torch.Tensor, ArrayField("K C C", bounds=SIMPLEX)]
...     num_examples: Annotated[torch.Tensor | None, ArrayField("K C", torch.int64, COUNTS)] = None
>>> Means(torch.tensor([3]), torch.full((1, 2, 2), 0.5)).num_clients
1
"""

from fedfuse.payload.fields import (
    COUNTS,
    FINITE,
    LOGITS,
    NOT_NEGATIVE,
    SIMPLEX,
    ArrayField,
    Bounds,
    TextField,
)
from fedfuse.payload.payload import Payload, for_all, is_for_all

__all__ = [
    "COUNTS",
    "FINITE",
    "LOGITS",
    "NOT_NEGATIVE",
    "SIMPLEX",
    "ArrayField",
    "Bounds",
    "Payload",
    "TextField",
    "for_all",
    "is_for_all",
]
