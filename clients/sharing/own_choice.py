"""What clients choose by their own predictions: what they answer for, and what they want taught."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedfuse.declarations import part_name
from fedfuse.errors import FedfuseError
from fedfuse.protocols import Answering, SharingStage, Wishing
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.user_code import PartError, kind_of

LAST = "answer/last"
"""Where a client keeps its last teacher's logits, float32 [P, C], NaN where it has had none."""


@dataclass(frozen=True, slots=True)
class OwnChoice:
    """Let each client of a cohort look at what it says itself, and at what it was told last.

    Args:
        answer: Which samples a client answers for, or how surely; None for all alike.
        wish: Which targets it wants; None for all.
        temperature: Of the predictions that are compared.
        plain: Predictions to the space of what is shared, in which teachers come.
        num_public: P.
    """

    answer: Answering | None
    wish: Wishing | None
    temperature: float
    plain: SharingStage
    num_public: int

    def __call__(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank:
        """Return the bank of k clients' predictions with what they choose.

        Raises:
            PartError: If a part chose something else than it may.
        """
        own = self.plain(bank, context).logits / self.temperature
        if self.answer is not None:
            chosen = self._each("answer", self.answer, own, context)
            if chosen.dtype == torch.bool:
                bank = replace(bank, mask=_familiar(chosen, bank.mask))
            else:
                sure = chosen if bank.confidence is None else chosen * bank.confidence
                bank = replace(bank, confidence=sure)
        if self.wish is not None:
            bank = replace(bank, wishes=self._each("wish", self.wish, own, context))
        return bank

    def note(self, received: Teachers, context: SharingContext) -> None:
        """Let the clients keep what they are told."""
        logits = received.as_logits(self.temperature).cpu()
        for row, client_id in enumerate(received.client_ids.tolist()):
            kept = context.memory[client_id].get(LAST)
            if kept is None:
                kept = torch.full((self.num_public, logits.shape[2]), torch.nan)
            came = torch.ones(len(context.index), dtype=torch.bool)
            if received.sample_weight is not None:
                came = received.sample_weight[row].cpu() > 0
            kept = kept.index_copy(0, context.index[came], logits[row, came])
            context.memory[client_id][LAST] = kept

    def _each(
        self, slot: str, part: Answering | Wishing, own: Tensor, context: SharingContext
    ) -> Tensor:
        """Return what each client chooses, [k, m]."""
        chosen = []
        for row, (client_id, memory) in enumerate(context.memory.items()):
            last = memory[LAST][context.index] if LAST in memory else None
            counts, draw = context.class_counts[row], context.generator(client_id, slot)
            if not bool(own[row].isfinite().all()):
                raise FedfuseError(
                    f"The predictions of client {client_id} on the public samples of round "
                    f"{context.round} are not finite",
                    got="NaN or infinite logits",
                    allowed="finite logits, to choose samples by",
                    next_step="If its training diverged, lower optimizer.lr.",
                )
            made = part(own[row].clone(), last, counts, draw)
            chosen.append(choice(slot, part, made, own.shape[1]))
        if len({made.dtype for made in chosen}) > 1:
            raise PartError(
                f"The {slot} {part_name(part)} gave a mask for one client and a confidence for "
                "another",
                allowed="the same for all",
            )
        return torch.stack(chosen)


def _familiar(chosen: Tensor, familiar: Tensor | None) -> Tensor:
    """Return what a client chooses of the samples that are familiar to it; all of them if none."""
    if familiar is None:
        return chosen
    both = chosen & familiar
    return torch.where(both.any(dim=1, keepdim=True), both, familiar)


def choice(slot: str, part: Answering | Wishing, made: object, num_samples: int) -> Tensor:
    """Return what a part chose of so many samples, if it is what its slot allows.

    Raises:
        PartError: If it is something else.
    """
    types = (torch.bool,) if slot == "wish" else (torch.bool, torch.float32)
    words = "bool" if slot == "wish" else "bool or float32"
    right = False
    if isinstance(made, Tensor):
        right = made.shape == (num_samples,) and made.dtype in types
    if not right or not bool(made.isfinite().all()):  # type: ignore[attr-defined]
        raise PartError(
            f"The {slot} {part_name(part)} did not say which samples it chooses",
            got="NaN or infinite values" if right else kind_of(made),
            allowed=f"finite {words} of shape [{num_samples}]",
        )
    assert isinstance(made, Tensor)
    if made.dtype == torch.bool and not bool(made.any()):
        raise PartError(
            f"The {slot} {part_name(part)} chose no sample at all",
            got=f"{num_samples} times False",
            allowed="at least one True",
        )
    return made
