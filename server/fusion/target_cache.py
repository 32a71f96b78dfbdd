"""SCARLET's cache on the server: which targets still serve, and who holds which of them.

The bookkeeping with rounds is :mod:`fedfuse.select.cache`; here are the targets themselves. Their
holders are tracked one by one, so a client that missed a round gets what it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.select import PublicRounds, SignalCache
from fedfuse.select.cache import NEVER, Signal, live, stale
from fedfuse.shapes import Bool, Int
from fedfuse.types import Teachers


class TargetCache:
    """Keep fused targets for some rounds; ask for and send only those that nobody has.

    Args:
        signals: For how long a target serves.
        rounds: The public samples of each round.
        num_clients: K.
    """

    def __init__(self, signals: SignalCache, rounds: PublicRounds, num_clients: int) -> None:
        self.signals, self.rounds = signals, rounds
        num_public = len(rounds.public)
        self._stored = signals.empty(num_public)
        self._held = torch.full((num_clients, num_public), NEVER)
        self._targets: Tensor | None = None

    def request(
        self,
        round_: int,
        client_ids: Sequence[int] = (),  # noqa: ARG002 - all are asked alike
    ) -> Bool[Tensor, " m"]:
        """Return which of the round's samples clients must predict."""
        return self.signals.request(self._stored, round_, self.rounds.index(round_))

    def complete(self, teachers: Teachers, round_: int) -> Teachers:
        """Return whole teachers: the fresh targets, kept from now on, and those that still serve.

        A sample that was asked for and that nobody answered has no target and does not count.

        Args:
            teachers: What the round's answers were fused to.
            round_: The round.

        Raises:
            KnowledgeError: If clients have different targets; there is one cache for all.
        """
        self._check_common(teachers)
        index, num_receivers = self.rounds.index(round_), len(teachers.client_ids)
        fresh = self.request(round_)
        if teachers.sample_weight is not None:
            fresh &= teachers.sample_weight[0] > 0
        if self._targets is None:
            self._targets = torch.zeros(len(self._stored), teachers.targets.shape[2])
        self._targets[index[fresh]] = teachers.targets[0, fresh]
        self._stored[index[fresh]] = round_
        weight = live(self._stored[index], round_, self.signals.duration).float()
        return replace(
            teachers,
            targets=self._targets[index].repeat(num_receivers, 1, 1),
            sample_weight=weight.repeat(num_receivers, 1),
        )

    def send(
        self, client_ids: Int[Tensor, " k"], round_: int
    ) -> tuple[Bool[Tensor, "k m"], Tensor]:
        """Return which of the round's targets each client lacks, and a signal for every sample.

        The clients are taken to hold them from now on; see :meth:`forget`.
        """
        index = self.rounds.index(round_)
        serves = live(self._stored[index], round_, self.signals.duration)
        held = self._held[client_ids[:, None], index]
        lacks = stale(self._held[client_ids], self._stored, index) & serves
        kinds = torch.where(held == NEVER, Signal.NEWLY_CACHED, Signal.EXPIRED)
        told = torch.where(lacks, kinds, torch.where(serves, Signal.CACHED, Signal.LEFT_OUT))
        self._held[client_ids[:, None], index] = torch.where(serves, self._stored[index], held)
        return lacks, told.to(torch.uint8)

    def forget(self, client_ids: Sequence[int]) -> None:
        """Presume that these clients hold nothing."""
        self._held[torch.tensor(client_ids, dtype=torch.int64)] = NEVER

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must save."""
        kept = {"stored": self._stored.clone(), "held": self._held.clone()}
        if self._targets is not None:
            kept["targets"] = self._targets.clone()
        return kept

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self._stored, self._held = state["stored"].clone(), state["held"].clone()
        self._targets = state["targets"].clone() if "targets" in state else None

    def _check_common(self, teachers: Teachers) -> None:
        weight = teachers.sample_weight
        one = bool((teachers.targets == teachers.targets[:1]).all())
        plain = weight is None or bool(((weight == 0) | (weight == 1)).all())
        if not (one and plain and (weight is None or bool((weight == weight[:1]).all()))):
            raise KnowledgeError(
                "The cache keeps one target for all clients, and the method makes one for each",
                next_step="Set cache=none, or choose a method with a common target.",
            )
