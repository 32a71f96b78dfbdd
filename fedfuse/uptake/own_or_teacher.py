"""Learn from the teacher where it is surer than the client, and else stay with one's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedfuse.arrival import Arrival
from fedfuse.fusion.gate import BY, as_probabilities, confidence
from fedfuse.types import Space, Teachers
from fedfuse.validation import require_number, require_one_of


@dataclass(frozen=True, slots=True)
class OwnOrTeacher:
    """Data partitioning of Fantastic Gains (Roth et al., arXiv 2310.17653), per sample.

    The target is the teacher's where the teacher's confidence is above that of the client's own
    prediction, before privacy and codec, and the client's own otherwise: ties are its own. Both
    are compared and mixed in the space in which the teacher came. What its own target asks of a
    client is to stay as it is.

    Args:
        by: ``max_prob``, the largest probability; or ``label``, that of the public label.
        soft: 0 decides; above, the teacher's share is ``sigmoid((conf_T - conf_own) / soft)``,
            which is ours.
        temperature: Of the softmaxes.
    """

    by: str = "max_prob"
    soft: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_one_of("OwnOrTeacher", "by", self.by, BY)
        require_number("OwnOrTeacher", "soft", self.soft, at_least=0)
        require_number("OwnOrTeacher", "temperature", self.temperature, above=0)

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the public labels."""
        return self.by == "label"

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Return the teachers, with the client's own answer where that is as sure."""
        lead = gap(teachers, at, self.temperature, self.needs_labels)
        share = (lead > 0).float() if self.soft == 0 else torch.sigmoid(lead / self.soft)
        return mixed(teachers, at, share, self.temperature)


def gap(teachers: Teachers, at: Arrival, temperature: float, by_label: bool) -> Tensor:
    """Return by how much each teacher is surer than its client, [k, m] from -1 to 1."""
    labels = at.labels if by_label else None
    theirs = as_probabilities(teachers.targets.float(), teachers.space, temperature)
    own = as_probabilities(at.own(), Space.LOGITS, temperature)
    return confidence(theirs, labels) - confidence(own, labels)


def mixed(
    teachers: Teachers, at: Arrival, share: Tensor, temperature: float, rest: Tensor | None = None
) -> Teachers:
    """Return the teachers with targets of which they have a share [k, m], and the client the rest.

    Args:
        teachers: Whose targets; probabilities are mixed with probabilities, logits with logits.
        at: Where the clients' own come from; it is told the share.
        share: From 0 to 1.
        temperature: Of the clients' own softmax.
        rest: Logits [k, m, C] that have the rest; None for what the clients say now.
    """
    own = at.own() if rest is None else rest
    if teachers.space is Space.PROBABILITIES:
        own = as_probabilities(own, Space.LOGITS, temperature)
    at.took(share)
    part = share.unsqueeze(-1)
    return replace(teachers, targets=part * teachers.targets.float() + (1 - part) * own)
