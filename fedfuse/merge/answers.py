"""What models answer, of which a server has the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedfuse.layout import Layout
from fedfuse.shapes import Float
from fedfuse.train.loop import predict

BATCH = 256


def answers(
    model: nn.Module, layout: Layout, vectors: Float[Tensor, "k N"], inputs: Float[Tensor, "m ..."]
) -> Float[Tensor, "k m C"]:
    """Return the logits of models for inputs.

    Args:
        model: One of their architecture, to be written into.
        layout: How the vectors are laid out.
        vectors: The models.
        inputs: Ready for the model.
    """
    said = []
    for vector in vectors:
        layout.load(model, vector)
        said.append(predict(model, inputs, BATCH))
    return torch.stack(said)


def likeness(logits: Float[Tensor, "k m C"]) -> Float[Tensor, "k k"]:
    """Return ``-mean KL(p_i || p_j)`` over the samples, row i, float64: 0 for oneself.

    >>> likeness(torch.tensor([[[0.0, 0.0]], [[0.0, 1.0986123]]])).round(decimals=4).tolist()
    [[0.0, -0.1438], [-0.1308, 0.0]]
    """
    logs = logits.double().log_softmax(dim=2)
    crossed = torch.einsum("imc,jmc->ij", logs.exp(), logs) / logits.shape[1]
    return crossed - crossed.diagonal().unsqueeze(1)
