"""pFedMe: each client solves for a model of its own near the shared one, which follows it.

With the shared model w and the client's own model v (the paper's theta), K steps at a time of

    min_v  f(v) + lam / 2 |v - w|**2,    then    w <- w - eta lam (w - v).

The w of all clients are averaged. Only steps of v are optimiser steps: moving w costs no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from clients.exchange.both import JOINED, Personalises
from clients.exchange.models import Twins, as_personal, become
from clients.exchange.protocol import Task, Tools
from fedfuse.errors import ParameterError
from fedfuse.exchange.models import ModelBank
from fedfuse.exchange.weights import proximal_term
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work
from fedfuse.validation import require_count, require_number

SOLVED = "exchange/solved"
"""What a client remembers while its shared model has yet to follow its last steps."""


@dataclass(frozen=True, slots=True)
class PFedMe(Personalises):
    """Average what follows personal models (Dinh et al. 2020, arXiv 2006.08848).

    Args:
        lam: Pull of the client's own model towards the shared one.
        eta: Rate of the shared model: it goes ``eta * lam`` of the way, which is at most all of it.
        inner_steps: Steps of the client's own model before the shared one follows.
        budget: ``optimiser_steps`` takes distillation's steps too; ``rounds`` the local epochs.
        mixed: ``refuse`` more than one architecture, or ``group``: average within each.
        buffers: ``average`` them too, or leave each client its ``own`` (batch norm statistics).
    """

    lam: float = 15.0
    eta: float = 0.005
    inner_steps: int = 5
    budget: str = "optimiser_steps"
    mixed: str = "refuse"
    buffers: str = "average"
    extra: ClassVar[str] = "the shared model follows without a gradient"

    def __post_init__(self) -> None:
        require_number("PFedMe", "lam", self.lam, above=0)
        require_number("PFedMe", "eta", self.eta, above=0)
        require_count("PFedMe", "inner_steps", self.inner_steps)
        if self.eta * self.lam > 1:
            raise ParameterError("PFedMe", "eta", self.eta, f"at most 1 / lam = {1 / self.lam:g}")
        self.check()

    def together(self, held: Sequence[Student], works: Sequence[Work], tools: Tools) -> list[Task]:
        """Return the steps of the clients' own models; the shared ones follow every few."""
        tasks = []
        for student, work in zip(held, works, strict=True):
            assert isinstance(student.model, Twins)
            inner = _Inner(student.model, self.lam, self.eta * self.lam, self.inner_steps)
            tools.memory(student.client_id)[SOLVED] = torch.tensor(True)
            tasks.append(
                (as_personal(student), replace(work, penalty=inner.pull, before_step=inner))
            )
        return tasks

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> ModelBank:
        """Return the shared models, which have followed the last steps."""
        for student in held:
            self._settle(student, tools)
        return super(PFedMe, self).share(held, tools, round_)

    def begin_round(self, student: Student, tools: Tools) -> None:
        """Let the client's own model begin at the shared one, with moments of its own."""
        assert isinstance(student.model, Twins)
        self._settle(student, tools)
        if JOINED in tools.memory(student.client_id):
            become(student.model.personal, student.model.shared)
            student.forget(student.model.personal.parameters())
        Personalises.begin_round(self, student, tools)

    def took(self, student: Student, tools: Tools) -> None:
        """Give a client that has never solved for a model of its own the average as such.

        It keeps the first, so the last that it missed would not do (``last_suffices``).
        """
        if JOINED not in tools.memory(student.client_id):
            assert isinstance(student.model, Twins)
            become(student.model.personal, student.model.shared)
        Personalises.took(self, student, tools)

    def _settle(self, student: Student, tools: Tools) -> None:
        """Let the shared model follow the last steps, if it has not yet."""
        if tools.memory(student.client_id).pop(SOLVED, None) is not None:
            assert isinstance(student.model, Twins)
            follow(student.model, self.eta * self.lam)


@dataclass(frozen=True, slots=True)
class _Inner:
    """Steps near a shared model that follows after every ``every`` of them."""

    twins: Twins
    lam: float
    share: float
    every: int

    def pull(self, model: nn.Module) -> Tensor:
        """Return ``lam / 2 |v - w|**2`` around the shared model as it is now."""
        shared = {name: value.detach() for name, value in self.twins.shared.named_parameters()}
        return proximal_term(dict(model.named_parameters()), shared, self.lam)

    def __call__(self, step: int, *_: object) -> None:
        """Let the shared model follow, before the steps that go on from there."""
        if step and step % self.every == 0:
            follow(self.twins, self.share)


@torch.no_grad()
def follow(twins: Twins, share: float) -> None:
    """Move the shared model a share of the way to the client's own; buffers become the own ones.

    >>> twins = Twins(nn.Linear(1, 1, bias=False))
    >>> _ = nn.init.constant_(twins.shared.weight, 1.0), nn.init.constant_(twins.personal.weight, 3)
    >>> follow(twins, 0.25)
    >>> twins.shared.weight.item(), twins.personal.weight.item()
    (1.5, 3.0)
    """
    for w, v in zip(twins.shared.parameters(), twins.personal.parameters(), strict=True):
        w.lerp_(v, share)
    for theirs, own in zip(twins.shared.buffers(), twins.personal.buffers(), strict=True):
        theirs.copy_(own)
