"""What a fault is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fedfuse.rng import Streams


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one client in one round.

    Args:
        away: It is not in the federation (yet, or any more).
        gone_before: It vanishes before it has uploaded anything; what it computed is lost with it.
        gone_after: It uploads, and vanishes before its teacher comes.
        delay: Rounds by which its upload is late; until then it is busy.
        lost: Its reply is lost on the way.
        duplicated: Its reply arrives again in the next round.
        restarted: It begins the round with nothing that it has learnt.
    """

    away: bool = False
    gone_before: bool = False
    gone_after: bool = False
    delay: int = 0
    lost: bool = False
    duplicated: bool = False
    restarted: bool = False


class Faults(Protocol):
    """Say what happens to a client in a round, as a function of its arguments alone.

    ``max_age`` is the age in rounds up to which late knowledge is used.
    """

    @property
    def max_age(self) -> int:
        """Return the age up to which late knowledge is used."""
        ...

    def fate(self, client_id: int, round_: int, num_rounds: int, streams: Streams) -> Fate:
        """Return what happens; draw from streams that begin with ``"faults"``."""
        ...
