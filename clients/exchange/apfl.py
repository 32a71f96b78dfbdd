"""APFL: a client's model is a mixture of the weights of the shared model and of one of its own.

With the shared model w, a model v that stays, and ``u = alpha v + (1 - alpha) w``, one step moves
w by the gradient of f(w) and v by that of f(u), with one batch; it counts as one optimiser step and
costs a forward and a backward pass more. The share alpha descends on f(u), too, once a round:

    alpha <- alpha - rate <v - w, grad f(u)>,    kept from 0 to 1.

u is what predicts; it is mixed anew when the average of all w comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clients.exchange.both import JOINED, Personalises
from clients.exchange.ditto import BothLearn
from clients.exchange.models import SideBySide, Twins, as_personal
from clients.exchange.protocol import Task, Tools
from fedfuse.train.trainer import Student
from fedfuse.train.work import BeforeStep, SampleLoss, Work, weighted_mean
from fedfuse.types import Phase
from fedfuse.validation import require_number


class Mixed(Twins):
    """A shared model, one that stays, and how much the latter counts in the client's own.

    Args:
        shared: The model that is sent; a copy of it stays.
        alpha: Share of the model that stays, 0 to 1.
    """

    alpha: Tensor

    def __init__(self, shared: nn.Module, alpha: float) -> None:
        super().__init__(shared)
        self.register_buffer("alpha", torch.tensor(alpha))

    def weights(self, alpha: Tensor) -> dict[str, Tensor]:
        """Return ``alpha v + (1 - alpha) w``; gradients flow to v and alpha, not to w."""
        return {
            name: alpha * v + (1 - alpha) * w.detach()
            for (name, v), w in zip(
                self.personal.named_parameters(), self.shared.parameters(), strict=True
            )
        }

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to the mixture's logits."""
        return self.at(self.alpha, inputs)

    def at(self, alpha: Tensor, inputs: Tensor) -> Tensor:
        """Map inputs to the logits of the mixture with another share."""
        logits: Tensor = functional_call(self.personal, self.weights(alpha), (inputs,))
        return logits


class Mixture(nn.Module):
    """The mixture as one model, which has the weights that it predicts with.

    Args:
        mixed: Of which; training the mixture moves the model that stays.
    """

    def __init__(self, mixed: Mixed) -> None:
        super().__init__()
        self.mixed = mixed

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to logits."""
        logits: Tensor = self.mixed(inputs)
        return logits

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Return weights and buffers under the architecture's names."""
        whole = self.mixed.personal.state_dict()
        return {**whole, **{k: v.detach() for k, v in self.mixed.weights(self.mixed.alpha).items()}}


@dataclass(frozen=True, slots=True)
class APFL(Personalises):
    """Average models, mix each with one that stays (Deng et al. 2020, arXiv 2003.13461).

    Args:
        alpha: Share of the model that stays, at first; 0 is FedAvg, 1 local training, if it rests.
        alpha_rate: Step of its gradient descent, once a round; 0 keeps it as it is.
        budget: ``optimiser_steps`` takes distillation's steps too; ``rounds`` the local epochs.
        mixed: ``refuse`` more than one architecture, or ``group``: average within each.
        buffers: ``average`` them too, or leave each client its ``own`` (batch norm statistics).
    """

    alpha: float = 0.5
    alpha_rate: float = 0.1
    budget: str = "optimiser_steps"
    mixed: str = "refuse"
    buffers: str = "average"
    last_suffices: ClassVar[bool] = True
    extra: ClassVar[str] = "a step moves both models of a client"

    def __post_init__(self) -> None:
        require_number("APFL", "alpha", self.alpha, at_least=0, at_most=1)
        require_number("APFL", "alpha_rate", self.alpha_rate, at_least=0)
        self.check()

    def hold(self, client_id: int, model: nn.Module, tools: Tools) -> nn.Module:  # noqa: ARG002
        """Return both models, equal at first, and the share."""
        return Mixed(model, self.alpha).to(next(model.parameters()).device)

    def together(
        self,
        held: Sequence[Student],
        works: Sequence[Work],
        tools: Tools,  # noqa: ARG002
    ) -> list[Task]:
        """Return the steps of both models; before the first the share moves."""
        tasks = []
        for student, work in zip(held, works, strict=True):
            before = adapting(work.loss, self.alpha_rate) if self.alpha_rate else None
            work = replace(work, loss=BothLearn(work.loss), before_step=before)
            tasks.append((replace(student, model=SideBySide(student.model)), work))
        return tasks

    def evaluation_models(
        self,
        held: Sequence[Student],
        tools: Tools,
        phase: Phase,  # noqa: ARG002
    ) -> list[Student]:
        """Return the mixtures; before the first exchange, the models that stay."""
        made = []
        for student in held:
            assert isinstance(student.model, Mixed)
            joined = JOINED in tools.memory(student.client_id)
            made.append(
                replace(student, model=Mixture(student.model)) if joined else as_personal(student)
            )
        return made


def adapting(loss: SampleLoss, rate: float) -> BeforeStep:
    """Return what moves the share by its gradient on the first batch of a round."""

    def before(
        step: int, model: nn.Module, inputs: Tensor, targets: Tensor, weight: Tensor | None
    ) -> None:
        if step:
            return
        assert isinstance(model, SideBySide)
        mixed = model.twins
        assert isinstance(mixed, Mixed)
        model.eval()  # it is a look: no statistics are gathered, nothing is dropped
        alpha = mixed.alpha.clone().requires_grad_()
        value = weighted_mean(loss(mixed.at(alpha, inputs).float(), targets), weight)
        (slope,) = torch.autograd.grad(value, alpha)
        model.train()
        mixed.alpha.sub_(rate * slope).clamp_(0, 1)

    return before
