"""Learn most where the teacher is ahead of the client, nothing where the client is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedfuse.arrival import Arrival
from fedfuse.fusion.gate import BY, as_probabilities, confidence
from fedfuse.types import Space, Teachers
from fedfuse.uptake.chain import weighed
from fedfuse.uptake.own_or_teacher import gap
from fedfuse.validation import require_number, require_one_of

FORMS = ("comd", "pgkd")


@dataclass(frozen=True, slots=True)
class Gap:
    """Weigh each sample by the gap of confidences between teacher and client; weights are ours.

    Args:
        form: ``comd`` (CoMD, arXiv 2311.08213): ``1 + boost`` where the teacher is surer by more
            than ``delta``, 0 where the client is, 1 between. ``pgkd`` (PGKD, arXiv 2411.05045):
            ``1 + boost`` for the client's sure mistakes, where it names another class than the
            teacher with a probability of at least ``theta``, 1 elsewhere.
        by: What tells who is ahead: ``max_prob``, the largest probability; or ``label``, that of
            the public label, which then also says what a mistake is.
        delta: From which gap on it counts; 1 gives all samples the weight 1.
        boost: What is added to the weight.
        theta: For ``pgkd``.
        temperature: Of the softmaxes.
    """

    form: str = "comd"
    by: str = "max_prob"
    delta: float = 0.1
    boost: float = 1.0
    theta: float = 0.8
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_one_of("Gap", "form", self.form, FORMS)
        require_one_of("Gap", "by", self.by, BY)
        require_number("Gap", "delta", self.delta, at_least=0)
        require_number("Gap", "boost", self.boost, at_least=0)
        require_number("Gap", "theta", self.theta, at_least=0, at_most=1)
        require_number("Gap", "temperature", self.temperature, above=0)

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the public labels."""
        return self.by == "label"

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Return the teachers with other sample weights."""
        if self.form == "comd":
            lead = gap(teachers, at, self.temperature, self.needs_labels)
            factor = torch.ones_like(lead)
            factor[lead > self.delta] = 1 + self.boost
            factor[lead < -self.delta] = 0
        else:
            own = as_probabilities(at.own(), Space.LOGITS, self.temperature)
            right = at.labels if self.needs_labels else teachers.targets.argmax(dim=-1)
            sure = confidence(own)
            factor = torch.ones_like(sure)
            factor[(own.argmax(dim=-1) != right) & (sure >= self.theta)] += self.boost
        return weighed(teachers, factor)
