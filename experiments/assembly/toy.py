"""A toy on which a part of the user's own is tried: small, and of the run's own shape.

That is: of its clients, its classes, its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from experiments.assembly.parts import Parts
from fedfuse.declarations import declared
from fedfuse.fusion.neighbours import All
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.fusion.rules import MeanProbabilities
from fedfuse.fusion.scorers import KnFu
from fedfuse.payload import Payload
from fedfuse.payload.fields import SIMPLEX_TOLERANCE
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.user_code import PartError, kind_of

LARGEST = 2**20
"""Numbers in the toy bank; with many clients and classes it holds fewer public samples."""


FEW_ROUNDS = 5
"""Rounds that are tried of a part that chooses anew in each."""


@dataclass(frozen=True, slots=True)
class Toy:
    """What parts are tried on.

    Args:
        parts: The run's parts.
        what: The part that is tried, in words.
    """

    parts: Parts
    what: str

    @property
    def num_public(self) -> int:
        """Return P: the run's own, unless the bank would be large."""
        cfg, data = self.parts.cfg, self.parts.data
        most = max(2, LARGEST // (cfg.num_clients * data.num_classes))
        return int(min(len(data.public), most))

    def bank(self, *, shares: bool = False, confident: bool = False) -> KnowledgeBank:
        """Return what all clients might send."""
        cfg, data = self.parts.cfg, self.parts.data
        draw = torch.Generator().manual_seed(0)
        size = (cfg.num_clients, self.num_public, data.num_classes)
        leaning = torch.randn(size[0], 1, size[2], generator=draw)
        return KnowledgeBank(
            client_ids=torch.arange(size[0]),
            logits=2 * leaning + torch.randn(size, generator=draw),
            num_examples=torch.arange(1, size[0] + 1) * 10,
            class_distribution=leaning.squeeze(1).softmax(dim=1) if shares else None,
            confidence=torch.rand(size[:2], generator=draw) + 0.1 if confident else None,
        )

    def labels(self) -> Tensor | None:
        """Return the public labels of the bank's samples, if anybody knows them."""
        labels = self.parts.data.public.labels
        return None if labels is None else torch.tensor(labels[: self.num_public])

    def fuse(self, **slots: Any) -> Teachers:
        """Fuse the bank with the parts given and plain ones beside them.

        Raises:
            PartError: If it writes into the bank, or makes no probabilities where it should.
        """
        plain = {"scorer": KnFu(beta=1.0), "neighbours": All(), "rule": MeanProbabilities()}
        pipeline = Pipeline(**{**plain, **slots})
        cfg, needs = self.parts.cfg, declared(pipeline.scorer, "needs_class_distribution", False)
        told = {
            "shares": cfg.client.share_class_distribution or needs,
            "confident": declared(pipeline.rule, "needs_confidence", False),
        }
        bank, labels = self.bank(**told), self.labels()
        teachers = pipeline(bank, labels, round_=1).teachers
        assert isinstance(teachers, Teachers)
        # numpy writes into a tensor and leaves no trace
        self.unchanged((bank, labels), (self.bank(**told), self.labels()))
        off = float((teachers.targets.sum(dim=-1) - 1).abs().max())
        if teachers.space is Space.PROBABILITIES and not off < SIMPLEX_TOLERANCE:
            raise PartError(
                f"{self.what} did not return probabilities",
                got=f"a sum {off:g} away from 1",
                allowed="values from 0 that sum to 1 over the classes",
            )
        return teachers

    def rounds(self, first: int | None = None) -> range:
        """Return a few of the run's rounds, from the first that fuses."""
        cfg = self.parts.cfg
        first = cfg.warmup_rounds + 1 if first is None else first
        return range(first, min(first + FEW_ROUNDS, cfg.num_rounds + 1))

    def unchanged(self, given: object, before: object) -> None:
        """Raise PartError if the part wrote into what it was given."""
        if not alike(given, before):
            raise PartError(f"{self.what} changed what it was given", allowed="a copy")

    def context(self) -> SharingContext:
        """Return the first sharing context on which all clients share."""
        cfg, data = self.parts.cfg, self.parts.data
        return SharingContext(
            arm=cfg.method.name,
            round=1,
            index=torch.arange(self.num_public),
            class_counts=torch.ones(cfg.num_clients, data.num_classes, dtype=torch.int64),
            memory={i: {} for i in range(cfg.num_clients)},
            streams=Streams(cfg.seed),
        )

    def expect(self, value: object, shape: tuple[int, ...], means: str) -> Tensor:
        """Return the value if it is a tensor of finite floats of that shape.

        Raises:
            PartError: If it is something else.
        """
        right = False
        if isinstance(value, Tensor):
            right = tuple(value.shape) == shape and value.is_floating_point()
            if right and bool(value.isfinite().all()):
                return value
        raise PartError(
            f"{self.what} did not return {means}",
            got="NaN or infinite values" if right else kind_of(value),
            allowed=f"finite floats of shape {list(shape)}",
        )


def alike(one: object, other: object) -> bool:
    """Tell whether tensors, payloads or lists of either hold the same numbers."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, Payload) and type(one) is type(other):
        return all(alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)
