"""An attack as the first stage on the way from predictions to the message."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedfuse.attack.protocol import Attack, Scene
from fedfuse.errors import FedfuseError
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank
from fedfuse.user_code import kind_of

RECEIVED = "attack/received"
"""Where an adversary remembers what it was sent last."""


def adversaries(fraction: float, num_clients: int, streams: Streams) -> tuple[int, ...]:
    """Return who attacks: a share of the clients, rounded, drawn once for the whole run.

    At least one client attacks and at least one does not.

    >>> len(adversaries(0.2, 10, Streams(0)))
    2
    """
    count = min(max(1, round(fraction * num_clients)), num_clients - 1)
    order = torch.randperm(num_clients, generator=streams.torch("attack", "adversaries"))
    return tuple(sorted(order[:count].tolist()))


@dataclass(frozen=True, slots=True)
class AttackStage:
    """Let adversaries change what they learn from and what they send.

    Args:
        attack: How.
        adversaries: Who.
        shares: float32 [K, C], class shares of all clients' private data.
    """

    attack: Attack
    adversaries: tuple[int, ...]
    shares: Tensor

    def relabel(self, client_id: int, labels: Tensor) -> Tensor:
        """Return the labels that a client trains on."""
        if client_id not in self.adversaries:
            return labels
        return self.attack.labels(labels, self.shares.shape[1])

    def __call__(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank:
        """Return the bank with the adversaries' logits [k, m, C] replaced.

        Raises:
            FedfuseError: If the attack returns something else than finite logits.
        """
        logits = bank.logits.clone()
        for row, client_id in enumerate(bank.client_ids.tolist()):
            if client_id not in self.adversaries:
                continue
            sent = self.attack.predictions(logits[row], self._scene(client_id, context))
            right = isinstance(sent, Tensor) and sent.shape == logits[row].shape
            if not right or not bool(torch.isfinite(sent).all()):
                raise FedfuseError(
                    f"The attack broke its promise for client {client_id}",
                    got="NaN or infinite values" if right else kind_of(sent),
                    allowed=f"finite logits {list(logits[row].shape)}",
                )
            logits[row] = sent
        return replace(bank, logits=logits)

    def _scene(self, client_id: int, context: SharingContext) -> Scene:
        benign = [i for i in range(len(self.shares)) if i not in self.adversaries]
        # Its victim stays the same for the whole run.
        draw = torch.randint(
            len(benign), (1,), generator=context.streams.torch("attack", "victim", client_id)
        )
        received = context.memory[client_id].get(RECEIVED)
        same = received is not None and len(received) == len(context.index)
        return Scene(
            victim=self.shares[benign[int(draw)]],
            received=received if same else None,
            own=context.generator(client_id, "attack"),
            common=context.streams.torch("attack", "common", context.round),
        )
