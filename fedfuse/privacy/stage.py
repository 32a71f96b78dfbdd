"""A privacy mechanism as a stage on the way from predictions to the message."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.errors import FedfuseError
from fedfuse.privacy.protocol import Privacy
from fedfuse.privacy.secret import new_secret, secret_generator
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank
from fedfuse.user_code import kind_of

SECRET, ROUND, SENT = "privacy/secret", "privacy/round", "privacy/sent"
"""What a client remembers: what its noise is drawn from, and what it released last."""


@dataclass(frozen=True, slots=True)
class PrivacyStage:
    """Let a mechanism change every client's logits with the client's own random numbers.

    They come from a secret that the client makes up and remembers. A round's answer is released
    once: who asks for it again gets the same one, because the mean of two noisy copies is less
    noisy, and the difference of two answers under one noise is bare.

    Args:
        mechanism: What changes them.
        simulated: Draw from the run's public seed instead, so that a run repeats; whoever knows the
            seed then takes the noise off again.
        rounds: The rounds that a budget was computed for, and the only ones that are answered;
            None for any.
    """

    mechanism: Privacy
    simulated: bool = False
    rounds: Container[int] | None = field(default=None, compare=False)

    def begin(self, memory: dict[str, Tensor]) -> None:
        """Let a client make up its secret, if it needs one and has none."""
        if not self.simulated and SECRET not in memory:
            memory[SECRET] = new_secret()

    def __call__(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank:
        """Return the bank with protected logits [k, m, C]; nothing else in it changes.

        Raises:
            FedfuseError: If the mechanism returns something else than finite logits, or a round is
                asked about that is over, or that no budget was computed for.
        """
        if self.rounds is not None and context.round not in self.rounds:
            raise FedfuseError(
                "A round was asked about that the privacy budget does not cover",
                got=f"round {context.round}",
                next_step="Start a new run with as many rounds as there shall be.",
            )
        protected = torch.empty_like(bank.logits)
        reads_counts = declared(self.mechanism, "needs_class_counts", False)
        for row, client_id in enumerate(bank.client_ids.tolist()):
            given = (bank.logits[row], *((context.class_counts[row],) if reads_counts else ()))
            if self.simulated:
                generator = context.generator(client_id, "privacy")
                protected[row] = self._released(given, generator, client_id)
            else:
                memory = context.memory[client_id]
                protected[row] = self._once(given, memory, context, client_id)
        return replace(bank, logits=protected)

    def _once(
        self,
        given: tuple[Tensor, ...],
        memory: dict[str, Tensor],
        context: SharingContext,
        client_id: int,
    ) -> Tensor:
        """Return the round's answer, which is made once."""
        last = int(memory[ROUND]) if ROUND in memory else 0
        if context.round < last or (context.round == last and memory[SENT].shape != given[0].shape):
            raise FedfuseError(
                f"Client {client_id} was asked again about a round that is over",
                got=f"round {context.round}",
                allowed=f"a round after {last}",
                next_step="Two noisy copies of an answer would say more than one.",
            )
        if context.round == last:
            return memory[SENT]
        self.begin(memory)
        name = ("privacy", context.streams.seed, context.arm, client_id, context.round)
        sent = self._released(given, secret_generator(memory[SECRET], *name), client_id)
        memory[ROUND], memory[SENT] = torch.tensor(context.round), sent.clone()
        return sent

    def _released(
        self, given: tuple[Tensor, ...], generator: torch.Generator, client_id: int
    ) -> Tensor:
        """Return what the mechanism makes of one client's logits [m, C], checked."""
        logits, *counts = given
        mechanism: Callable[..., Tensor] = self.mechanism
        sent = mechanism(logits, generator, *counts)
        right = isinstance(sent, Tensor) and sent.shape == logits.shape
        if not right or not bool(torch.isfinite(sent).all()):
            raise FedfuseError(
                f"The privacy mechanism broke its promise for client {client_id}",
                got="NaN or infinite values" if right else kind_of(sent),
                allowed=f"finite logits {list(logits.shape)}",
            )
        return sent
