"""One client that could not finish a phase."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """One client that could not finish a phase.

    Args:
        client_id: Which client.
        round: In which round.
        phase: ``train`` or ``distill``.
        error: The error in one line.
        traceback: Where it happened, as Python prints it.
        is_mistake: True for a :class:`~fedfuse.errors.FedfuseError`, whose message tells a
            person what to mend.
        quarantined: True if the client answered, and its answer was refused. Only the server
            says so; it does not travel.
        own: Of the traceback the frames of the user's own code; empty if there are none.
    """

    client_id: int
    round: int
    phase: str
    error: str
    traceback: str
    is_mistake: bool
    quarantined: bool = False
    own: str = ""
