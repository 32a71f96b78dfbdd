"""What clients' models say of their own private samples, in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from clients.exchange.protocol import Tools
from fedfuse.train.trainer import Student


class PrivateAnswers(NamedTuple):
    """A client's private training samples and what its model says of them.

    Args:
        said: float32 [N, ...], of each sample.
        inputs: [N, ...].
        labels: int64 [N].
    """

    said: Tensor
    inputs: Tensor
    labels: Tensor


def private_answers(students: Sequence[Student], tools: Tools) -> list[PrivateAnswers]:
    """Return each client's, where the samples are."""
    rows = tools.inputs.private([tools.inputs.data.clients[s.client_id] for s in students])
    said = tools.trainer.predict_each(
        students, [inputs for inputs, _ in rows], tools.plan.eval_batch_size
    )
    return [PrivateAnswers(one, *row) for one, row in zip(said, rows, strict=True)]
