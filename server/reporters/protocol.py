"""What a run tells those who watch it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fedfuse.types import RoundRecord


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known before the first round.

    Args:
        method: Name of the method under test.
        arms: The federations that will run one after the other with the same data, initial
            weights and random streams: those that train alone first, then the method itself.
        num_clients: K.
        num_rounds: Rounds of each arm.
        dataset: The data set's name.
        partitioner: The partitioner, in a few words.
        model: The model or models, in a few words.
        preview: Who holds how many samples of which class, as text of at most 80 columns.
        folder: The run folder; None for a run without one.
        config: The resolved configuration, nested.
    """

    method: str
    arms: tuple[str, ...]
    num_clients: int
    num_rounds: int
    dataset: str
    partitioner: str
    model: str
    preview: str = ""
    folder: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def controls(self) -> tuple[str, ...]:
        """Return the arms that the method is compared with, the plain one first."""
        return self.arms[:-1]

    @property
    def against(self) -> str:
        """Return the controls as the end of a headline; empty without any."""
        return f" against {' and '.join(self.controls)}" if self.controls else ""

    def flat_config(self) -> dict[str, Any]:
        """Return the configuration's values by their dotted keys.

        >>> flat = RunInfo("m", ("m",), 1, 1, "d", "p", "n", config={"a": {"b": 1}}).flat_config()
        >>> flat
        {'a.b': 1}
        """
        return dict(_flat(self.config, ""))


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Reporter(Protocol):
    """Watch a run. Every call comes from one thread, in the order written here."""

    def start(self, info: RunInfo) -> None:
        """Begin the run."""

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Begin the phase 'train', 'fuse', 'distill' or 'probe' of a round (from 1 on)."""

    def client_done(self, client_id: int) -> None:
        """Count one client that has finished the current phase."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Take the finished round's record."""

    def close(self) -> None:
        """Release what is held (a terminal, an open file), also after an error."""


@runtime_checkable
class WatchesSilence(Protocol):
    """A reporter that also wants to know whom everybody is waiting for."""

    def waiting(self, client_ids: Sequence[int], seconds: float) -> None:
        """Take the clients that have not answered for unusually long.

        Called now and then while it lasts.

        Args:
            client_ids: Who has not finished the phase.
            seconds: How long ago they were asked.
        """


@runtime_checkable
class TakesModels(Protocol):
    """A reporter that also wants the clients' models at the end of the method."""

    def client_models(self, about: Mapping[str, Any], content: bytes) -> None:
        """Take the models of some clients; called until all of them have come.

        Args:
            about: What it takes to build and use them; ``missing`` says why there are none.
            content: Their weights and buffers, as safetensors ``ID/model/NAME``.
        """


@runtime_checkable
class WatchesSteps(Protocol):
    """A reporter that also wants to know how far the client at work is."""

    def step(self, done: int, total: int) -> None:
        """Take how many of its optimiser steps a client has taken; called for some of them."""
