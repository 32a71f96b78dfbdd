"""A round's public samples as model inputs: what is asked, and what is learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.select.rounds import PublicRounds


@dataclass(slots=True)
class PublicSamples:
    """The public samples of a round, prepared once.

    Args:
        rounds: Which ones they are, and what becomes of them.
        whole: Returns all public inputs [P, ...].
        sent: What the server says of the round's samples, uint8 [m, a]; None for nothing.
    """

    rounds: PublicRounds
    whole: Callable[[], Tensor]
    sent: Tensor | None = None
    _chosen: tuple[int, Tensor] | None = None
    _changed: tuple[int, Tensor | None, Tensor] | None = None

    def asked(self, round_: int) -> Tensor:
        """Return what everybody answers for, [m, ...]."""
        changes = self.rounds.changes_answers
        return self._augmented(round_) if changes else self.as_they_were(round_)

    def learned(self, round_: int) -> Tensor:
        """Return what the round's lesson is about, [m, ...]."""
        return self._augmented(round_)

    def as_they_were(self, round_: int) -> Tensor:
        """Return the round's samples before they are changed, [m, ...]."""
        if self._chosen is None or self._chosen[0] != round_:
            whole = self.whole()
            index = self.rounds.index(round_).to(whole.device)
            self._chosen = (round_, whole if len(index) == len(whole) else whole[index])
        return self._chosen[1]

    def _augmented(self, round_: int) -> Tensor:
        if self.rounds.augment is None:
            return self.as_they_were(round_)
        if self._changed is None or not self._is_of(self._changed[:2], round_):
            made = self.rounds.augmented(self.as_they_were(round_), round_, self.sent)
            self._changed = (round_, self.sent, made)
        return self._changed[2]

    def _is_of(self, made: tuple[int, Tensor | None], round_: int) -> bool:
        of, told = made
        if of != round_ or self.sent is None or told is None:
            return of == round_ and self.sent is told
        return torch.equal(self.sent, told)
