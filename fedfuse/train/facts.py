"""Losses that know more than logits and target: what they want travels as columns of the targets.

A batch holds rows of several clients, so nothing that is one client's can live in a loss. It stands
beside each row's target instead, in more columns of :attr:`~fedfuse.train.work.Work.targets`:
padding, cutting and weighing rows stay as they are, and no trainer knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.errors import FedfuseError
from fedfuse.shapes import Float, Int


@dataclass(frozen=True, slots=True)
class Facts:
    """What a loss may want to know of each sample of its batch; None is what it does not.

    A loss names what it wants in a class attribute ``wants``, a frozenset of these names, and is
    then called ``loss(logits, targets, facts)``.

    Args:
        labels: int64 [B], public labels.
        own: float32 [B, C], the client's own logits before the lesson.
        prior: float32 [B, C], the logarithm of the class shares that the client trains on.
        clock: float32 [B], where the client is between the beginning (0) and the end (1).
    """

    labels: Int[Tensor, " B"] | None = None
    own: Float[Tensor, "B C"] | None = None
    prior: Float[Tensor, "B C"] | None = None
    clock: Float[Tensor, " B"] | None = None

    def to(self, device: torch.device) -> Facts:
        """Return the same on a device."""
        known = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return Facts(**{name: value.to(device) for name, value in known if value is not None})


NAMES = tuple(entry.name for entry in fields(Facts))
"""What may be wanted, in the order of the columns."""

SINGLE = frozenset({"labels", "clock"})
"""Facts of one number a sample; the others have one for each class."""

_BACKWARDS = NAMES[::-1]


def wants(loss: object) -> frozenset[str]:
    """Return what a loss wants to know."""
    return frozenset(declared(loss, "wants", frozenset[str]()))


def widen(targets: Tensor, facts: Facts) -> Float[Tensor, "*batch N D"]:
    """Return targets with facts as more columns, float32; labels are exact up to 2**24.

    Args:
        targets: Labels int64 [..., N], or a row of numbers for each sample, floats [..., N, C].
        facts: Of the same samples.
    """
    columns = [targets if targets.is_floating_point() else targets.unsqueeze(-1)]
    known = [(name, fact) for name in NAMES if (fact := getattr(facts, name)) is not None]
    columns += [fact.unsqueeze(-1) if name in SINGLE else fact for name, fact in known]
    return torch.cat([column.float() for column in columns], dim=-1)


def told(loss: object, facts: Facts | None) -> Facts:
    """Return of what is known what a loss wants.

    Raises:
        FedfuseError: If it wants what is not known.
    """
    wanted = wants(loss)
    known = {name: getattr(facts, name, None) for name in NAMES if name in wanted}
    if unknown := sorted(wanted - {name for name, fact in known.items() if fact is not None}):
        raise FedfuseError(
            f"The loss {part_name(loss)} wants to know what nobody tells it here",
            got=", ".join(unknown),
            next_step="Choose a loss without it, such as distill=kl.",
        )
    return Facts(**known)


def ask(loss: Callable[..., Tensor], logits: Tensor, targets: Tensor, facts: Facts) -> Tensor:
    """Return the losses of a batch, with the facts for a loss that wants some."""
    return loss(logits, targets, facts) if wants(loss) else loss(logits, targets)


def labels_of(targets: Tensor) -> Int[Tensor, " N"]:
    """Return the labels of targets that begin with them, widened or not.

    >>> labels_of(widen(torch.tensor([2, 0]), Facts(prior=torch.zeros(2, 3)))).tolist()
    [2, 0]
    """
    return targets if targets.ndim == 1 else targets[:, 0].long()


@dataclass(frozen=True, slots=True)
class Widened:
    """A loss that wants facts, as the trainers call it: with wide targets alone.

    Args:
        loss: The loss, ``(logits, targets, facts)`` to [B].
        wants: Names of what it wants.
    """

    loss: Callable[..., Tensor]
    wants: frozenset[str]

    def __call__(self, logits: Float[Tensor, "B C"], wide: Float[Tensor, "B D"]) -> Tensor:
        """Return one loss per sample, [B]."""
        num_classes, end = logits.shape[1], wide.shape[1]
        known: dict[str, Tensor] = {}
        for name in _BACKWARDS:
            if name in self.wants:
                single = name in SINGLE
                end -= 1 if single else num_classes
                own = wide.select(1, end) if single else wide.narrow(1, end, num_classes)
                known[name] = own.long() if name == "labels" else own
        # Classes are two or more: one column is of labels.
        targets = wide.select(1, 0).long() if end == 1 else wide.narrow(1, 0, end)
        return self.loss(logits, targets, Facts(**known))


def as_trained(loss: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss as trainers call it, with the targets that :func:`widen` makes for it."""
    wanted = wants(loss)
    return Widened(loss, wanted) if wanted else loss
