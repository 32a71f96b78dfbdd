"""The samples of a process's clients, ready for the model and on its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedfuse.data.tensors import gather, normalise, normalise_, to_inputs, to_raw
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds, PublicSamples
from fedfuse.train.views import PrivateAugment, Views
from fedfuse.train.work import Work
from fedfuse.types import ClientData, FederatedData, IntArray, Samples

TOLD = "augment/told"
"""What a client remembers between the two halves of a round: what the server said of its public
samples, uint8 [m, a]."""
Memory = Mapping[int, dict[str, Tensor]]
"""Client id to what it remembers."""


@dataclass(slots=True)
class ModelInputs:
    """Model inputs and labels from the mapped arrays.

    On the CPU only the rows in use are ever float32; on a GPU the raw pools are moved there once
    and rows are taken from them there.

    Args:
        data: The federation's data.
        rounds: Which public samples each round is about.
        device: Where the tensors are wanted.
        augment: What changes private samples each time that a step sees one; None for nothing.
    """

    data: FederatedData
    rounds: PublicRounds
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    augment: PrivateAugment | None = None
    _public: Tensor | None = None
    samples: PublicSamples = field(init=False)
    _test: Tensor | None = None
    _unit_public: Tensor | None = None
    _pools: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.samples = PublicSamples(self.rounds, self.whole_public)

    def private(self, clients: Sequence[ClientData]) -> list[tuple[Tensor, Tensor]]:
        """Return the training inputs and labels of each client.

        Clients without a feature shift get consecutive slices of one tensor, so that who trains
        many at once need not copy them together.
        """
        return self.each([(self.data.train, client.train, client) for client in clients])

    def each(
        self, wanted: Sequence[tuple[Samples, IntArray, ClientData]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return inputs and labels of rows of a pool as each of several clients sees them.

        What several clients without a feature shift look at in one pool is one tensor's slices.
        """
        found: dict[int, tuple[Tensor, Tensor]] = {}
        together: dict[int, list[int]] = {}
        for at, (pool, index, client) in enumerate(wanted):
            if client.transform is None:
                together.setdefault(id(pool), []).append(at)
            else:
                found[at] = self.rows(pool, index, client)
        for places in together.values():
            pool, _, client = wanted[places[0]]
            sizes = [len(wanted[at][1]) for at in places]
            joined = np.concatenate([wanted[at][1] for at in places])
            inputs, labels = self.rows(pool, joined, client)
            parts = zip(torch.split(inputs, sizes), torch.split(labels, sizes), strict=True)
            found.update(zip(places, parts, strict=True))
        return [found[at] for at in range(len(wanted))]

    def augmented(self, work: Work, streams: Streams, *names: int | str) -> Work:
        """Return steps on private samples with what is drawn to change those.

        Args:
            work: The steps.
            streams: Where it is drawn from,
            names: and the name of that stream.
        """
        if self.augment is None:
            return work
        generator = streams.torch(*names, "views")
        draws = self.augment.draw(len(work.schedule.order), generator)
        channels = self.data.input_shape[0]
        black = normalise(torch.zeros(1, channels, 1, 1), self.data.mean, self.data.std)
        return replace(work, views=Views(self.augment, draws, tuple(black.flatten().tolist())))

    def rows(self, pool: Samples, index: IntArray, client: ClientData) -> tuple[Tensor, Tensor]:
        """Return inputs [B, ...] and labels [B] of some rows as the client sees them."""
        mean, std = self.data.mean, self.data.std
        if self.device.type == "cpu":
            return gather(pool, index, mean, std, client.transform)
        inputs, labels = self._on_device(pool)
        where = torch.from_numpy(np.ascontiguousarray(index)).to(self.device)
        raw = inputs[where].float()
        if client.transform is not None:
            # A user's own function, written for the CPU.
            return normalise(client.transform(raw.cpu()).to(self.device), mean, std), labels[where]
        return normalise_(raw, mean, std), labels[where]

    def class_counts(self, client_ids: Sequence[int]) -> Tensor:
        """Return the private training samples of each client and class, int64 [k, C]."""
        num_classes, owned = self.data.num_classes, [self.data.clients[i].train for i in client_ids]
        labels = np.asarray(self.data.train.labels)[np.concatenate(owned)]
        owners = np.repeat(np.arange(len(owned)), [len(index) for index in owned])
        size = len(owned) * num_classes
        counts = np.bincount(owners * num_classes + labels, minlength=size)
        return torch.from_numpy(counts).view(-1, num_classes)

    def whole_public(self) -> Tensor:
        """Return all public inputs [P, ...], prepared once per process."""
        if self._public is None:
            inputs = to_inputs(self.data.public.inputs, self.data.mean, self.data.std)
            self._public = inputs.to(self.device)
        return self._public

    def public(self, round_: int) -> Tensor:
        """Return the public inputs [m, ...] that the round's answers are about."""
        return self.samples.asked(round_)

    def lesson(self, round_: int) -> Tensor:
        """Return the public inputs [m, ...] that the round's distillation is about."""
        return self.samples.learned(round_)

    def keep_told(self, memory: Memory) -> None:
        """Let clients remember, until they are taught, what the server said of the samples."""
        if self.samples.sent is not None:
            for kept in memory.values():
                kept[TOLD] = self.samples.sent

    def recall_told(self, memory: Memory) -> None:
        """Take up what clients of one cohort were told in the round: the same for all of them."""
        self.samples.sent = next(iter(memory.values())).get(TOLD)

    def forget_told(self, memory: Memory) -> None:
        """Let clients forget it: the next round's samples are others."""
        for kept in memory.values():
            kept.pop(TOLD, None)

    def test(self) -> Tensor:
        """Return the test pool's inputs, prepared once per process and shared by its clients."""
        if self._test is None:
            inputs = to_inputs(self.data.test.inputs, self.data.mean, self.data.std)
            self._test = inputs.to(self.device)
        return self._test

    def unit_public(self) -> Tensor:
        """Return all public inputs [P, ...] before normalising, prepared once per process."""
        if self._unit_public is None:
            self._unit_public = self._unit(self.data.public.inputs)
        return self._unit_public

    def unit_test(self, index: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of rows of the balanced test set, before normalising."""
        labels = torch.from_numpy(np.array(self.data.test.labels[index])).to(self.device)
        return self._unit(self.data.test.inputs[index]), labels

    def _unit(self, inputs: npt.NDArray[Any]) -> Tensor:
        """Return images on the scale 0 to 1, features as models get them, on the device."""
        raw = to_raw(inputs).to(self.device)
        return raw / 255 if self.data.is_image else normalise(raw, self.data.mean, self.data.std)

    def _on_device(self, pool: Samples) -> tuple[Tensor, Tensor]:
        if id(pool) not in self._pools:
            self._pools[id(pool)] = (
                torch.from_numpy(np.array(pool.inputs)).to(self.device),
                torch.from_numpy(np.array(pool.labels)).to(self.device),
            )
        return self._pools[id(pool)]
