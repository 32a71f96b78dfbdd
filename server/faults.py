"""A federation to which faults happen: the same interface, and less luck.

Faults are the simulation's, so they are the same on every engine: a client that has dropped out is
not asked, a late upload waits here until it arrives. The server's own rules are here too: an upload
that is too old, about other samples, or no news counts for nothing; nobody's absence counts as
zeros, because only the rows of those who answered are handed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.exchange.kind import Kind
from fedfuse.faults import Fate, Faults
from fedfuse.payload import Payload
from fedfuse.rng import Streams
from fedfuse.wire.encode import decode, encode
from fedfuse.wire.messages import Header
from server.transport.answer import Answer
from server.transport.owed import Owing

PARTICIPANTS = "participants"
"""Metric: clients whose upload counted in the round."""
COUNTS = (
    "away",
    "dropped_before",
    "dropped_after",
    "busy",
    "late",
    "late_used",
    "stale",
    "lost",
    "duplicates",
    "restarted",
)
"""Metrics: what happened, in clients; a count of zero has no row."""


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload on its way.

    Args:
        client_id: Whose.
        sent: The round it is about.
        arrives: The round in which it arrives.
        copy: Whether it is a copy of one that has arrived before.
        knowledge: The client's row; None in a round or an arm in which nothing is shared.
    """

    client_id: int
    sent: int
    arrives: int
    copy: bool
    knowledge: Any


class Faulty:
    """Let faults happen to one arm of a run.

    Args:
        inner: The clients.
        faults: What happens to them.
        num_clients: K.
        num_rounds: Rounds of the arm.
        warmup_rounds: Rounds in which nothing is shared; an upload from one of them is no news.
        streams: The run's random streams.
        kind: What clients send.
        same_samples: Whether two rounds are about the same public samples.
    """

    def __init__(
        self,
        inner: Owing,
        faults: Faults,
        *,
        num_clients: int,
        num_rounds: int,
        warmup_rounds: int,
        streams: Streams,
        kind: Kind,
        same_samples: Callable[[int, int], bool],
    ) -> None:
        self._inner = inner
        self._faults = faults
        self._num_rounds = num_rounds
        self._warmup_rounds = warmup_rounds
        self._streams = streams
        self._kind = kind
        self._same_samples = same_samples
        self._pending: list[PendingUpload] = []
        self._newest = torch.zeros(num_clients, dtype=torch.int64)
        """The round of the last upload of each client that counted."""
        self._answered: set[int] = set()
        self._asked: set[int] = set()

    def train(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Let those who are there train; return what arrives in this round."""
        round_ = header.round
        counts: Counter[str] = Counter()
        fates = {i: self._fate(i, round_) for i in client_ids}
        busy = {upload.client_id for upload in self._pending if not upload.copy}
        asked = []
        for client_id, fate in fates.items():
            if client_id in busy:
                counts["busy"] += 1
            elif fate.away or fate.gone_before:
                counts["away" if fate.away else "dropped_before"] += 1
            else:
                asked.append(client_id)
        restarted = [i for i in asked if fates[i].restarted]
        counts["restarted"] = len(restarted)
        answer = Answer(None, None, (), 0)
        if asked:
            taught = tuple(sorted({*self._due(round_), *filter(self._at_once(fates), asked)}))
            answer = self._inner.train(replace(header, taught=taught), asked, restarted)
        failed = {failure.client_id for failure in answer.failures}
        arrived = self._post(answer, [i for i in asked if i not in failed], fates, round_, counts)
        rows = [upload.knowledge for upload in arrived if upload.knowledge is not None]
        self._asked = set(client_ids)
        self._answered = {upload.client_id for upload in arrived}
        counts[PARTICIPANTS] = len(arrived)
        told = {name: float(n) for name, n in counts.items() if n or name == PARTICIPANTS}
        knowledge = self._kind.upload.stack(rows) if rows else None
        answered = tuple(sorted(self._answered))
        return replace(answer, knowledge=knowledge, counts=told, answered=answered)

    def distil(
        self,
        header: Header,
        client_ids: Sequence[int],
        teachers: Payload | None,
        now: Collection[int] | None = None,
    ) -> Answer:
        """Teach those who answered and are still there; tell those who rest what goes to all."""
        there = [i for i in client_ids if i in self._answered]
        taught = [i for i in there if not self._fate(i, header.round).gone_after]
        gone = len(there) - len(taught)
        rest = [i for i in client_ids if i not in self._answered and self._rests(i, header.round)]
        told = sorted([*taught, *(rest if teachers is not None else [])])
        answer = Answer(None, None, (), 0)
        if told:
            if teachers is not None:
                position = torch.searchsorted(teachers.client_ids, torch.tensor(told))
                teachers = teachers.rows(position)
            answer = self._inner.distil(replace(header, taught=tuple(taught)), told, teachers, now)
        return replace(answer, counts={"dropped_after": float(gone)} if gone else {})

    def test(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Evaluate clients as they are; what is measured does not depend on luck."""
        return self._inner.test(header, client_ids)

    def state(self) -> dict[str, Tensor]:
        """Return the uploads that are on their way, and which have counted."""
        heads = [[m.client_id, m.sent, m.arrives, int(m.copy)] for m in self._pending]
        state = {
            "letters": torch.tensor(heads, dtype=torch.int64).reshape(-1, 4),
            "newest": self._newest.clone(),
        }
        for number, upload in enumerate(self._pending):
            if upload.knowledge is not None:
                for name, array in encode(upload.knowledge).items():
                    state[f"{number}/{name}"] = torch.tensor(array)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        arrays: dict[int, dict[str, Any]] = {}
        for name, value in state.items():
            number, slash, rest = name.partition("/")
            if slash:
                arrays.setdefault(int(number), {})[rest] = value.numpy()
        heads, newest = state.get("letters"), state.get("newest")
        if heads is None or newest is None or newest.shape != self._newest.shape:
            raise FedfuseError(
                "The saved uploads do not fit",
                got=sorted(state),
                next_step="Resume with the version that wrote it, or start the run anew.",
            )
        self._newest = newest.clone()
        self._pending = [
            PendingUpload(
                client_id=head[0],
                sent=head[1],
                arrives=head[2],
                copy=bool(head[3]),
                knowledge=decode(self._kind.upload, arrays[n]) if n in arrays else None,
            )
            for n, head in enumerate(heads.tolist())
        ]

    def _fate(self, client_id: int, round_: int) -> Fate:
        return self._faults.fate(client_id, round_, self._num_rounds, self._streams)

    def _rests(self, client_id: int, round_: int) -> bool:
        """Tell whether a client was not asked in the round, and can be reached nevertheless."""
        fate = self._fate(client_id, round_)
        gone = fate.away or fate.gone_before or fate.gone_after
        busy = any(upload.client_id == client_id for upload in self._pending if not upload.copy)
        return client_id not in self._asked and not gone and not busy

    @staticmethod
    def _at_once(fates: Mapping[int, Fate]) -> Callable[[int], bool]:
        """Return whether a client that trains now is taught in the same round."""

        def at_once(client_id: int) -> bool:
            fate = fates[client_id]
            return not (fate.lost or fate.delay or fate.gone_after)

        return at_once

    def _due(self, round_: int) -> list[int]:
        """Return whose late upload arrives in the round and counts, so that they are taught."""
        return [
            upload.client_id
            for upload in self._pending
            if upload.arrives <= round_
            and upload.sent > int(self._newest[upload.client_id])
            and not self._stale(upload, round_)
            and not self._fate(upload.client_id, round_).gone_after
        ]

    def _post(
        self,
        answer: Answer,
        client_ids: Sequence[int],
        fates: Mapping[int, Fate],
        round_: int,
        counts: Counter[str],
    ) -> list[PendingUpload]:
        """Send the new uploads on their way; return those that arrive now and count."""
        known = [] if answer.knowledge is None else answer.knowledge.client_ids.tolist()
        for client_id in client_ids:
            fate, row = fates[client_id], None
            if answer.knowledge is not None and client_id in known:
                row = answer.knowledge.rows(torch.tensor([known.index(client_id)]))
            if fate.lost:
                counts["lost"] += 1
                continue
            counts["late"] += fate.delay > 0
            arrives = round_ + fate.delay
            self._pending.append(
                PendingUpload(client_id, round_, arrives, copy=False, knowledge=row)
            )
            if fate.duplicated:
                again = PendingUpload(client_id, round_, arrives + 1, copy=True, knowledge=row)
                self._pending.append(again)
        due = sorted(
            (m for m in self._pending if m.arrives <= round_), key=lambda m: (m.client_id, -m.sent)
        )
        self._pending = [m for m in self._pending if m.arrives > round_]
        return [upload for upload in due if self._counts(upload, round_, counts)]

    def _counts(self, upload: PendingUpload, round_: int, counts: Counter[str]) -> bool:
        """Tell whether an upload that has arrived counts."""
        if upload.sent <= int(self._newest[upload.client_id]):
            counts["duplicates"] += 1
            return False
        if self._stale(upload, round_):
            counts["stale"] += 1
            return False
        counts["late_used"] += upload.sent < round_
        self._newest[upload.client_id] = upload.sent
        return True

    def _stale(self, upload: PendingUpload, round_: int) -> bool:
        """Tell whether an upload is too old to count, or about other samples."""
        age = round_ - upload.sent
        if age == 0:
            return False
        old = age > self._faults.max_age or upload.sent <= self._warmup_rounds
        return old or not self._same_samples(upload.sent, round_)
