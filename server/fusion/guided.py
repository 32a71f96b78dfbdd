"""The server's half of an augmentation that it chooses with its own model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from fedfuse.augment import Guided, ServerView, chosen
from fedfuse.train.loop import predict
from server.fusion.student import ServerModel


class GuidedSamples:
    """Choose, before each round, what becomes of its public samples.

    Args:
        augment: What they are changed by.
        student: The server's model, which is told what was chosen.
    """

    def __init__(self, augment: Guided, student: ServerModel) -> None:
        self.augment, self.student = augment, student
        self._past: list[dict[str, Tensor]] = []
        self._memory: dict[str, Tensor] = {}
        self._sent: tuple[int, Tensor | None] | None = None

    def sent(self, round_: int) -> Tensor | None:
        """Return what clients are told, uint8 [m, a]; None before there is anything to tell."""
        if self._sent is None or self._sent[0] != round_:
            self._sent = (round_, self._chosen(round_))
            self.student.samples.sent = self._sent[1]
        return self._sent[1]

    def before_lesson(self) -> None:
        """Keep the server's model as it is before it learns."""
        self._past = [*self._past, self.student.weights()][-self.augment.lag :]

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must save."""
        past = {
            f"past/{number}/{name}": value
            for number, weights in enumerate(self._past)
            for name, value in weights.items()
        }
        return past | {f"memory/{name}": value.clone() for name, value in self._memory.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        past: dict[int, dict[str, Tensor]] = {}
        self._memory, self._sent = {}, None
        for name, value in state.items():
            kind, rest = name.split("/", 1)
            if kind == "memory":
                self._memory[rest] = value.clone()
            else:
                number, entry = rest.split("/", 1)
                past.setdefault(int(number), {})[entry] = value
        self._past = [past[number] for number in sorted(past)]

    def _chosen(self, round_: int) -> Tensor | None:
        if len(self._past) < self.augment.lag:
            return None
        student, samples = self.student, self.student.samples
        earlier = copy.deepcopy(student.model)
        earlier.load_state_dict(self._past[0])
        inputs = samples.as_they_were(round_)
        view = ServerView(
            student.model,
            earlier,
            ask=partial(_ask, batch_size=student.batch_size),
            generator=student.streams.torch("server", "augment", round_),
            memory=self._memory,
        )
        with torch.random.fork_rng(devices=[]):
            return chosen(self.augment, inputs, samples.rounds.generator(round_), view)


def _ask(model: nn.Module, inputs: Tensor, batch_size: int) -> Tensor:
    return predict(model, inputs, batch_size).clone()
