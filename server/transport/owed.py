"""What clients that rest have yet to get: it waits here until they need it.

A client that averages models takes an average as it is, so of all that it misses while it rests
the last says everything (``last_suffices`` of an exchange). It is sent before the client trains or
is tested again, or its model is handed over at the end: in every round a few clients get it, and
not all of very many. An average is held once, whoever is owed it. Where every download counts, who
rests gets it at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.exchange.models import ModelBank, SharedModels
from fedfuse.payload import Payload
from fedfuse.wire.messages import Header
from server.transport.answer import Answer
from server.transport.channel import distinct_bytes
from server.transport.federation import Federation


class Owing:
    """The clients, who get what they are owed before they are asked for anything.

    Args:
        inner: The clients.
        when_needed: Whether those who rest get a download when they next need it; at once if not.
    """

    def __init__(self, inner: Federation, *, when_needed: bool) -> None:
        self._inner = inner
        self._when_needed = when_needed
        self._owed: dict[int, Tensor] = {}
        """Client to the model that it has yet to take over; of the same model the same tensor."""

    def train(
        self, header: Header, client_ids: Sequence[int], restarted: Sequence[int] = ()
    ) -> Answer:
        """Let the clients train; who has not got what it is owed sits out.

        Those in ``restarted`` forget it with all else.
        """
        for client_id in restarted:
            self._owed.pop(client_id, None)
        before = self.hand_down(header, client_ids)
        there = _without_failed(client_ids, before)
        if not there:
            return before
        return _after(before, self._inner.train(header, there, restarted))

    def distil(
        self,
        header: Header,
        client_ids: Sequence[int],
        teachers: Payload | None,
        now: Collection[int] | None = None,
    ) -> Answer:
        """Send each client what it learns from, or nothing, and let it learn.

        Args:
            header: The round.
            client_ids: Whom it is for.
            teachers: A row for each of them.
            now: Who learns or is tested in this round; the others take it over, now or later, and
                are not tested. None for all.
        """
        if teachers is None:
            before = self.hand_down(header, client_ids)
            there = _without_failed(client_ids, before)
            return _after(before, self._inner.distil(header, there, None)) if there else before
        first = [i for i in client_ids if now is None or i in now]
        others = sorted(set(client_ids) - set(first))
        answer = Answer(None, None, (), 0)
        if first:
            answer = self._inner.distil(header, first, _rows(teachers, first))
            self._settle(first, answer)
        if others and self._when_needed:
            assert isinstance(teachers, ModelBank)
            models = dict(zip(teachers.client_ids.tolist(), teachers.vectors(), strict=True))
            self._owed |= {i: models[i] for i in others}
        elif others:
            also = self._inner.distil(_untested(header), others, _rows(teachers, others))
            answer = replace(
                _after(also, answer),
                num_bytes=answer.num_bytes + also.num_bytes,
                broadcast_bytes=also.broadcast_bytes and distinct_bytes(teachers),
            )
        return answer

    def test(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Evaluate clients as they are, with all that they are owed."""
        before = self.hand_down(header, client_ids)
        there = _without_failed(client_ids, before)
        return _after(before, self._inner.test(header, there)) if there else before

    def hand_down(self, header: Header, client_ids: Iterable[int]) -> Answer:
        """Let clients take over what they are owed; they take no steps."""
        ids = sorted(i for i in client_ids if i in self._owed)
        if not ids:
            return Answer(None, None, (), 0)
        owed = SharedModels.of(ids, [0] * len(ids), [self._owed[i] for i in ids])
        answer = self._inner.distil(replace(_untested(header), taught=()), ids, owed)
        self._settle(ids, answer)
        late = answer.num_bytes, answer.broadcast_bytes
        return Answer(None, None, answer.failures, 0, noted=answer.noted, late_bytes=late)

    def state(self) -> dict[str, Tensor]:
        """Return what is owed to whom."""
        if not self._owed:
            return {}
        ids = sorted(self._owed)
        owed = SharedModels.of(ids, [0] * len(ids), [self._owed[i] for i in ids])
        return {name: getattr(owed, name) for name in ("client_ids", "sizes", "values", "like")}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned; of an older version's run nobody is owed.

        Raises:
            FedfuseError: If it is something else.
        """
        self._owed.clear()
        if not state:
            return
        try:
            ids = state["client_ids"]
            owed = SharedModels(num_examples=torch.zeros_like(ids), **state)
            self._owed |= zip(ids.tolist(), owed.vectors(), strict=True)
        except (TypeError, LookupError, RuntimeError, ValueError, KnowledgeError) as error:
            raise FedfuseError(
                "What clients are owed does not fit",
                got=sorted(state),
                next_step="Resume with the version that wrote it, or start the run anew.",
            ) from error

    def _settle(self, client_ids: Iterable[int], answer: Answer) -> None:
        """Note who has taken over something newer than it was owed, or that very thing."""
        failed = {failure.client_id for failure in answer.failures if not failure.quarantined}
        for client_id in client_ids:
            if client_id not in failed:
                self._owed.pop(client_id, None)


def _untested(header: Header) -> Header:
    return replace(header, share=False, evaluate=False, answers=False, probe=False)


def _rows(teachers: Payload, client_ids: Sequence[int]) -> Payload:
    return teachers.rows(torch.searchsorted(teachers.client_ids, torch.tensor(client_ids)))


def _without_failed(client_ids: Iterable[int], before: Answer) -> list[int]:
    failed = {failure.client_id for failure in before.failures}
    return [client_id for client_id in client_ids if client_id not in failed]


def _after(before: Answer, answer: Answer) -> Answer:
    """Return an answer with what was told while clients took over what they were owed."""
    return replace(
        answer,
        failures=tuple(
            sorted((*before.failures, *answer.failures), key=lambda failure: failure.client_id)
        ),
        noted=(*before.noted, *answer.noted),
        late_bytes=before.late_bytes,
    )
