"""One vector per class: what :mod:`class_logits` and :mod:`prototypes` send, up and down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from fedfuse.payload import COUNTS, LOGITS, ArrayField, Payload


@dataclass(frozen=True, slots=True)
class ClassKnowledge(Payload):
    """One vector per class: mean logits (FD, D = C) or mean features (FedProto, D = d).

    Args:
        client_ids: int64 [K], ascending.
        values: float32 [K, C, D]; rows of classes that are not present are zero.
        present: bool [K, C], whether the sender has anything to say about the class.
        num_examples: int64 [K, C], the samples behind each row; None unless the method needs
            them, because they are the client's label histogram.
    """

    values: Annotated[Tensor, ArrayField("K C D", bounds=LOGITS)]
    present: Annotated[Tensor, ArrayField("K C", torch.bool)]
    num_examples: Annotated[Tensor | None, ArrayField("K C", torch.int64, COUNTS, own=True)] = None
