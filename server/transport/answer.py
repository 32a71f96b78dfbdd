"""What the clients answer in one phase, and who can be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fedfuse.failure import Failure
from fedfuse.payload import Payload
from fedfuse.types import ClientMetrics
from fedfuse.wire.messages import Header


@dataclass(frozen=True, slots=True)
class Answer:
    """What the clients answered in one phase.

    Args:
        knowledge: What they shared, if they were asked for it and anyone answered.
        metrics: Their metrics, likewise.
        failures: The clients that could not finish.
        num_bytes: Size of the arrays of knowledge that were exchanged.
        broadcast_bytes: The same, if what several clients get alike leaves the server once.
        asked_bytes: Size of what clients were told beside whom it concerns, to be able to answer.
        late_bytes: Size of what clients were sent first that they had not needed while they rested,
            and the same if it leaves the server once.
        noted: What was refused elsewhere since the last answer (first words, states for a
            checkpoint), or left out with its node; those clients may well have answered now.
        counts: Numbers of the phase for the federation as a whole, by name of the metric.
        answered: Whose upload counts in this round, and who therefore is taught, in an arm that
            exchanges and in one that does not; None for all that were asked and did not fail.
    """

    knowledge: Payload | None
    metrics: ClientMetrics | None
    failures: tuple[Failure, ...]
    num_bytes: int
    broadcast_bytes: int = 0
    asked_bytes: int = 0
    late_bytes: tuple[int, int] = (0, 0)
    noted: tuple[Failure, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    answered: tuple[int, ...] | None = None

    def heard(self, asked: Sequence[int]) -> list[int]:
        """Return whose upload counts, out of those that were asked (and those that came late)."""
        failed = {failure.client_id for failure in self.failures}
        came = asked if self.answered is None else self.answered
        return [client_id for client_id in came if client_id not in failed]


class ClientFailedError(Exception):
    """A client raised; carries its own traceback.

    Args:
        failure: What happened to which client, when.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(
            f"client {failure.client_id} failed in round {failure.round}, phase "
            f"'{failure.phase}': {failure.error}"
        )

    def __reduce__(self) -> tuple[type[ClientFailedError], tuple[Failure]]:
        return ClientFailedError, (self.failure,)  # it crosses processes in a deployment


class Clients(Protocol):
    """Whoever takes part: the federation itself, or one to which faults happen."""

    def train(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Let the clients train and, if the header says so, share and evaluate."""
        ...

    def distil(
        self,
        header: Header,
        client_ids: Sequence[int],
        teachers: Payload | None,
        now: Collection[int] | None = None,
    ) -> Answer:
        """Send each client what it learns from, or nothing, and let it learn.

        Those who are not in ``now`` are not tested, and may get it when they next need it; None is
        all.
        """
        ...

    def test(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Evaluate clients as they are."""
        ...
