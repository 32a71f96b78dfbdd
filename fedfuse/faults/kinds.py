"""The faults that a configuration can name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedfuse.faults.protocol import Fate
from fedfuse.rng import Streams
from fedfuse.validation import require_count, require_number, require_one_of


def chance(streams: Streams, *name: str | int) -> float:
    """Return a number from [0, 1) that belongs to the name."""
    return float(streams.numpy("faults", *name).random())


@dataclass(frozen=True, slots=True)
class Dropout:
    """Clients vanish for a round.

    Args:
        rate: Probability of each client in each round.
        when: ``before`` its upload, ``after`` it, or ``either`` with equal chances.
    """

    rate: float = 0.5
    when: str = "before"
    max_age: ClassVar[int] = 0

    def __post_init__(self) -> None:
        require_number("Dropout", "rate", self.rate, at_least=0, at_most=1)
        require_one_of("Dropout", "when", self.when, ["before", "after", "either"])

    def fate(self, client_id: int, round_: int, num_rounds: int, streams: Streams) -> Fate:  # noqa: ARG002
        """Return whether the client vanishes, and when."""
        if chance(streams, "dropout", client_id, round_) >= self.rate:
            return Fate()
        before = self.when == "before" or (
            self.when == "either" and chance(streams, "dropout-when", client_id, round_) < 0.5
        )
        return Fate(gone_before=before, gone_after=not before)


@dataclass(frozen=True, slots=True)
class Stragglers:
    """Uploads come late, and are used if they are not too old.

    Args:
        rate: Probability that a client which begins a round is late with it.
        max_delay: Rounds of delay, drawn from 1 to this.
        max_age: Rounds of delay up to which late knowledge is used; 0 drops all that is late.
    """

    rate: float = 0.3
    max_delay: int = 2
    max_age: int = 1

    def __post_init__(self) -> None:
        require_number("Stragglers", "rate", self.rate, at_least=0, at_most=1)
        require_count("Stragglers", "max_delay", self.max_delay)
        require_count("Stragglers", "max_age", self.max_age, at_least=0)

    def fate(self, client_id: int, round_: int, num_rounds: int, streams: Streams) -> Fate:  # noqa: ARG002
        """Return how late the client is."""
        if chance(streams, "straggle", client_id, round_) >= self.rate:
            return Fate()
        draw = streams.numpy("faults", "delay", client_id, round_)
        return Fate(delay=int(draw.integers(1, self.max_delay + 1)))


@dataclass(frozen=True, slots=True)
class Churn:
    """Some clients join late, some leave for good.

    Args:
        join: Share of the clients that join after the first round, in the first half of the run.
        leave: Share that leaves in the second half.
    """

    join: float = 0.3
    leave: float = 0.3
    max_age: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("join", "leave"):
            require_number("Churn", name, getattr(self, name), at_least=0, at_most=1)

    def fate(self, client_id: int, round_: int, num_rounds: int, streams: Streams) -> Fate:
        """Return whether the client is in the federation."""
        half = num_rounds // 2
        first, last = 1, num_rounds
        if chance(streams, "join", client_id) < self.join and half >= 2:
            first = int(streams.numpy("faults", "joins", client_id).integers(2, half + 1))
        if chance(streams, "leave", client_id) < self.leave and half < num_rounds:
            last = int(streams.numpy("faults", "leaves", client_id).integers(half, num_rounds))
        return Fate(away=not first <= round_ <= max(first, last))


@dataclass(frozen=True, slots=True)
class Messages:
    """Replies are lost, or arrive twice.

    Args:
        lost: Probability that a reply is lost.
        duplicated: Probability that one arrives again in the next round.
    """

    lost: float = 0.1
    duplicated: float = 0.1
    max_age: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("lost", "duplicated"):
            require_number("Messages", name, getattr(self, name), at_least=0, at_most=1)

    def fate(self, client_id: int, round_: int, num_rounds: int, streams: Streams) -> Fate:  # noqa: ARG002
        """Return what happens to the reply."""
        return Fate(
            lost=chance(streams, "lost", client_id, round_) < self.lost,
            duplicated=chance(streams, "duplicated", client_id, round_) < self.duplicated,
        )


@dataclass(frozen=True, slots=True)
class Restarts:
    """Machines restart and have lost what their clients learnt.

    Args:
        rate: Probability of each client in each round after the first.
    """

    rate: float = 0.1
    max_age: ClassVar[int] = 0

    def __post_init__(self) -> None:
        require_number("Restarts", "rate", self.rate, at_least=0, at_most=1)

    def fate(self, client_id: int, round_: int, num_rounds: int, streams: Streams) -> Fate:  # noqa: ARG002
        """Return whether the client begins anew."""
        again = round_ > 1 and chance(streams, "restart", client_id, round_) < self.rate
        return Fate(restarted=again)
