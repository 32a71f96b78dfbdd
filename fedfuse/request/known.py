"""What the server knows of each public sample, from the last time that anybody answered it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedfuse.select.selections import round_half_up
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space, Teachers


@dataclass(slots=True, eq=False)
class Known:
    """Numbers of public samples by name, each [P, ...] on the CPU, NaN until there are any."""

    _kept: dict[str, Tensor] = field(default_factory=dict)

    def put(self, index: Int[Tensor, " m"], told: Bool[Tensor, " m"], **values: Tensor) -> None:
        """Keep what is new of the samples ``index`` where ``told``."""
        at, told = index.cpu(), told.cpu()
        for name, value in values.items():
            new = value.float().cpu()
            old = self._kept.get(name, new.new_empty(0, *new.shape[1:]))
            missing = max(0, int(at.max()) + 1 - len(old))
            fill = new.new_full((missing, *new.shape[1:]), torch.nan)
            self._kept[name] = torch.cat([old, fill]).index_copy(0, at[told], new[told])

    def get(self, name: str, index: Int[Tensor, " m"]) -> Tensor | None:
        """Return what is known of the samples, [m, ...]; None before anything is."""
        if name not in self._kept:
            return None
        kept, at = self._kept[name], index.cpu()
        rows = kept[at.clamp_max(len(kept) - 1)]
        rows[at >= len(kept)] = torch.nan
        return rows

    def state(self) -> dict[str, Tensor]:
        """Return a copy."""
        return {name: value.clone() for name, value in self._kept.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self._kept = {name: value.clone() for name, value in state.items()}


def budget(num_samples: int, share: float, size: int | None = None) -> int:
    """Return how many samples to ask for: ``size``, or a share of them, at least one.

    >>> budget(5, 0.5), budget(5, 0.5, 9), budget(3, 0.01)
    (3, 5, 1)
    """
    number = round_half_up(share * num_samples) if size is None else size
    return max(1, min(number, num_samples))


def unknown_first(
    known: Bool[Tensor, " m"], number: int, choose: Callable[[Tensor, int], Tensor]
) -> Bool[Tensor, " m"]:
    """Return which samples are asked for: everything until anything is known.

    Then samples that nobody has answered come first, and ``choose`` says which of the others.

    Args:
        known: Of which samples anything is known.
        number: How many to ask for.
        choose: Where the known ones are, [n], and how many are still wanted, to a mask [n].

    >>> unknown_first(torch.tensor([True, False, True]), 2, lambda at, n: at >= 2)
    tensor([False,  True,  True])
    """
    if not bool(known.any()):
        return torch.ones_like(known)
    missing = (~known).nonzero().flatten()[:number]
    chosen = torch.zeros_like(known)
    chosen[missing] = True
    if (left := number - len(missing)) > 0:
        at = known.nonzero().flatten()
        chosen[at[choose(at, left)]] = True
    return chosen


def own_and_taught(
    bank: KnowledgeBank, teachers: Teachers
) -> tuple[Float[Tensor, "k m C"], Float[Tensor, "k m C"], Bool[Tensor, "k m"]]:
    """Return what clients say and what they are taught, as probabilities, and who has answered."""
    targets = teachers.targets.to(bank.logits)
    taught = targets if teachers.space is Space.PROBABILITIES else targets.softmax(dim=-1)
    own = bank.logits.softmax(dim=-1)
    answered = torch.ones_like(own[..., 0], dtype=torch.bool) if bank.mask is None else bank.mask
    return own, taught, answered


def mean_of_answers(values: Tensor, answered: Bool[Tensor, "k m"]) -> Tensor:
    """Return the mean of [k, m, ...] over the clients that answered, NaN where nobody did.

    >>> mean_of_answers(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[True, False]] * 2))
    tensor([2., nan])
    """
    counts = answered.view(*answered.shape, *[1] * (values.ndim - 2)).to(values.dtype)
    return torch.where(counts > 0, values, 0).sum(dim=0) / counts.sum(dim=0)
