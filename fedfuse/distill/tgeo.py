"""How much the teacher counts against the label: a rule, or a network that each client learns.

TGeo-KD (Hu et al. 2023, https://arxiv.org/abs/2312.15112): features, network and rates as in the
authors' code. There the network has no gradient in the inner step, so that the outer one cannot
move it; what is computed here are the paper's equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedfuse.distill.tgeo_controller import controller, untaught
from fedfuse.distill.triangle import class_means, mixture, ratio, triangle
from fedfuse.errors import require
from fedfuse.shapes import Float
from fedfuse.train.facts import Facts, Widened
from fedfuse.train.look_ahead import look_ahead
from fedfuse.train.own_loss import LossContext, OwnLoss
from fedfuse.train.work import weighted_mean
from fedfuse.types import Space
from fedfuse.validation import require_count, require_number, require_one_of

RULES = ("learned", "ratio")
OMEGA, SLOTS = "tgeo/omega", ("step", "exp_avg", "exp_avg_sq")
"""Names in a client's memory: of the network's weights, and of what their Adam keeps."""


@dataclass(frozen=True, slots=True)
class TGeo:
    """Mix the divergence from the teacher and the cross-entropy to the public label, by sample.

    With ``learned`` every client has a small network that says how: its own, in its memory, taught
    by what a step would do to the loss on the client's validation samples. Before it has learnt
    anything, it says a half. With ``ratio`` (ours) nothing is learned: t_y / (t_y + p_y).

    Args:
        rule: ``learned`` or ``ratio``.
        temperature: T of the student's softmax; take that of the teacher's probabilities.
        hidden: Units of the network's hidden layers.
        learning_rate: Of the network's Adam. The authors' is 0.1; through a step that is looked
            ahead, it has made alpha 0 within two lessons, and for good (ours: 0.01).
        weight_decay: Of the network. It is taken off the weights: added to the gradient of so
            small a step, nothing else would be left of that (ours).
        outer_every: Steps of the student from one step of the network to the next.
        outer_batch: Validation samples that such a step looks at, at most.
        eta: Size of the step that is looked ahead; None takes the client's learning rate.
    """

    rule: str = "learned"
    temperature: float = 1.0
    hidden: Sequence[int] = (32, 16)
    learning_rate: float = 0.01
    weight_decay: float = 0.05
    outer_every: int = 10
    outer_batch: int = 128
    eta: float | None = None
    space: ClassVar[Space] = Space.PROBABILITIES
    wants: ClassVar[frozenset[str]] = frozenset({"labels"})
    least_where_agreeing: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_one_of("TGeo", "rule", self.rule, RULES)
        require_number("TGeo", "temperature", self.temperature, above=0)
        hidden = self.hidden
        ok = isinstance(hidden, Sequence) and not isinstance(hidden, str)
        require(ok, "TGeo", "hidden", hidden, "a list of integers")
        for units in hidden:
            require_count("TGeo", "hidden", units)
        object.__setattr__(self, "hidden", tuple(hidden))
        require_number("TGeo", "learning_rate", self.learning_rate, above=0)
        require_number("TGeo", "weight_decay", self.weight_decay, at_least=0)
        require_count("TGeo", "outer_every", self.outer_every)
        require_count("TGeo", "outer_batch", self.outer_batch)
        if self.eta is not None:
            require_number("TGeo", "eta", self.eta, above=0)

    @property
    def batchable(self) -> bool:
        """Whether many clients may train at once."""
        return self.rule == "ratio"

    @property
    def needs_validation(self) -> bool:
        """Whether clients must hold samples back."""
        return self.rule == "learned"

    def of_client(self, at: LossContext) -> OwnLoss:
        """Return the client's own loss, with its network."""
        return ClientTGeo(self, at)

    def __call__(
        self,
        student_logits: Float[Tensor, "B C"],
        targets: Float[Tensor, "B C"],
        facts: Facts,
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        labels = facts.labels
        assert labels is not None, "it is wanted"
        if self.rule == "ratio":
            alpha = ratio(student_logits, targets, labels, self.temperature)
        else:
            alpha = torch.full_like(student_logits[:, 0], 0.5)
        return mixture(student_logits, targets, labels, alpha, self.temperature)


class ClientTGeo:
    """One client's TGeo-KD with its network.

    Args:
        loss: The settings.
        at: The client at the beginning of a lesson.
    """

    wants: ClassVar[frozenset[str]] = TGeo.wants

    def __init__(self, loss: TGeo, at: LossContext) -> None:
        self.loss, self.at = loss, at
        self._draw = torch.Generator().manual_seed(at.entropy)
        self._omega: Tensor | None = None
        self._adam: torch.optim.Optimizer | None = None

    def alpha(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], facts: Facts
    ) -> Float[Tensor, " B"]:
        """Return how much the teacher counts for each sample; its gradient is the network's."""
        assert facts.labels is not None, "it is wanted"
        student = (student_logits.detach() / self.loss.temperature).softmax(dim=1)
        means = class_means(targets, facts.labels)
        features = triangle(student, targets, facts.labels, means)
        return controller(self.omega(features), features, self.loss.hidden)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], facts: Facts
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        alpha = self.alpha(student_logits, targets, facts).detach()
        assert facts.labels is not None
        return mixture(student_logits, targets, facts.labels, alpha, self.loss.temperature)

    def before_step(
        self, step: int, model: nn.Module, inputs: Tensor, targets: Tensor, weight: Tensor | None
    ) -> None:
        """Let the network take a step, every so often."""
        if step % self.loss.outer_every:
            return
        shares: list[Tensor] = []

        def mixed(
            logits: Float[Tensor, "B C"], told: Float[Tensor, "B C"], facts: Facts
        ) -> Float[Tensor, " B"]:
            assert facts.labels is not None
            shares.append(self.alpha(logits, told, facts))
            return mixture(logits, told, facts.labels, shares[-1], self.loss.temperature)

        ask = Widened(mixed, self.wants)
        chosen = torch.randperm(len(self.at.labels), generator=self._draw)[: self.loss.outer_batch]
        chosen = chosen.to(inputs.device)
        labels = self.at.labels[chosen]
        judged = look_ahead(
            model,
            lambda logits: weighted_mean(ask(logits, targets), weight),
            inputs,
            lambda logits: functional.cross_entropy(logits, labels),
            self.at.inputs[chosen],
            self.at.learning_rate if self.loss.eta is None else self.loss.eta,
        )
        self.at.report["teacher_alpha"] = float(shares[0].detach().mean())
        self._learn(judged)

    def omega(self, features: Float[Tensor, "B F"]) -> Float[Tensor, " N"]:
        """Return the network's weights, from the memory or new, on the device of the features."""
        if self._omega is None:
            kept = self.at.memory.get(OMEGA)
            if kept is None:
                kept = untaught(features.shape[1], self.loss.hidden, self._draw)
            self._omega = kept.to(features, copy=True).requires_grad_()
            self._adam = torch.optim.AdamW(
                [self._omega], self.loss.learning_rate, weight_decay=self.loss.weight_decay
            )
            if OMEGA in self.at.memory:
                slots = {slot: self.at.memory[f"tgeo/{slot}"].clone() for slot in SLOTS}
                known = self._adam.state_dict()
                self._adam.load_state_dict({**known, "state": {0: slots}})
        return self._omega

    def _learn(self, judged: Tensor) -> None:
        """Take a step of the network, and remember it."""
        assert self._omega is not None
        assert self._adam is not None
        (self._omega.grad,) = torch.autograd.grad(judged, self._omega)
        self._adam.step()
        slots = self._adam.state[self._omega]
        self.at.memory[OMEGA] = self._omega.detach().cpu().clone()
        self.at.memory.update({f"tgeo/{slot}": slots[slot].cpu().clone() for slot in SLOTS})
