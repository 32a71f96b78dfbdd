"""Which clients remember something, and of whom the server has not heard since it last asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class AtWork:
    """Who has been at work in the arm that is running.

    Args:
        arm: The arm.
        begun: Clients that remember something: they have said that they did what they were asked.
        known: Those that may remember something: they have been asked, or given a state.
        changed: Those that may remember something else than when their states were last asked for.
        unheard: Those that did not finish what they were last asked: they may be at it still.
    """

    arm: str = ""
    begun: set[int] = field(default_factory=set)
    known: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    unheard: set[int] = field(default_factory=set)

    def enter(self, arm: str) -> None:
        """Begin another arm, in which nobody remembers anything; nothing happens if it is this."""
        if arm != self.arm:
            self.__init__(arm)  # type: ignore[misc]

    def asked(
        self, client_ids: Iterable[int], lost: Iterable[int] = (), restarted: Iterable[int] = ()
    ) -> None:
        """Note that clients were asked to do something that they remember.

        Args:
            client_ids: Who.
            lost: Those of them who did not finish; what they have got to nobody knows.
            restarted: Those of them who had forgotten all before.
        """
        everybody, lost = set(client_ids), set(lost)
        self.begun = self.begun - set(restarted) | (everybody - lost)
        self.known |= everybody
        self.changed |= everybody
        self.unheard = self.unheard - everybody | (everybody & lost)

    def prepared(self, client_ids: Iterable[int]) -> None:
        """Note that clients began before the first round, or said nothing: then they have not."""
        self.known |= set(client_ids)
        self.changed |= set(client_ids)

    def loaded(self, client_ids: Iterable[int]) -> None:
        """Note that clients remember what the last checkpoint holds of them."""
        self.begun |= set(client_ids)
        self.known |= set(client_ids)

    def saved(self) -> None:
        """Note that all that changed has been asked for."""
        self.changed = set(self.unheard)
