"""An arm whose clients' data lie in one place: nobody is absent, and as many steps are taken.

The upper bound trains one model on all private data. It takes the steps that the clients of the
baseline take together, and those depend on who takes part and on what goes wrong; but its data do
not rest, and none of its messages is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from fedfuse.payload import Payload
from fedfuse.wire.messages import Header
from server.transport.answer import Answer, Clients
from server.transport.owed import Owing


@dataclass(slots=True)
class Shadow:
    """Clients that do nothing but note who was there: what luck would have done to them."""

    present: tuple[int, ...] = ()
    taught: tuple[int, ...] = ()

    def train(
        self,
        header: Header,  # noqa: ARG002
        client_ids: Sequence[int],
        restarted: Sequence[int] = (),  # noqa: ARG002 - what lies in one place is not forgotten
    ) -> Answer:
        """Note who trains."""
        self.present = tuple(client_ids)
        return Answer(None, None, (), 0)

    def distil(
        self,
        header: Header,  # noqa: ARG002
        client_ids: Sequence[int],
        teachers: Payload | None,  # noqa: ARG002
        now: Collection[int] | None = None,  # noqa: ARG002
    ) -> Answer:
        """Note who is taught."""
        self.taught = tuple(client_ids)
        return Answer(None, None, (), 0)

    def test(self, header: Header, client_ids: Sequence[int]) -> Answer:  # noqa: ARG002
        """Do nothing."""
        return Answer(None, None, (), 0)


@dataclass(slots=True)
class Pool:
    """Ask every client, and tell them whose steps are theirs to take.

    Args:
        inner: The clients.
        shadow: Who notes what happened to whom.
        faulty: The shadow, with the faults that happen to it.
        num_clients: K.
    """

    inner: Owing
    shadow: Shadow
    faulty: Clients
    num_clients: int

    def train(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Let one client of each architecture take the steps of all that are there."""
        self.shadow.present = self.shadow.taught = ()
        told = self.faulty.train(header, client_ids)
        counts = dict(told.counts)
        if header.share:
            counts |= self.faulty.distil(header, told.heard(client_ids), None).counts
        header = replace(header, present=self.shadow.present, taught=self.shadow.taught)
        answer = self.inner.train(header, range(self.num_clients))
        return replace(answer, counts=counts)

    def distil(
        self,
        header: Header,
        client_ids: Sequence[int],
        teachers: Payload | None,
        now: Collection[int] | None = None,  # noqa: ARG002
    ) -> Answer:
        """Hand the model to everybody."""
        return self.inner.distil(header, client_ids, teachers)

    def test(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Evaluate clients as they are."""
        return self.inner.test(header, client_ids)
