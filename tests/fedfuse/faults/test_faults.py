"""Faults: what is drawn, what counts, and that nobody's absence counts as zeros."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.faults import Churn, Dropout, Fate, Messages, Restarts, Stragglers
from fedfuse.rng import Streams
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.wire.messages import Header
from server.faults import Faulty
from server.transport.answer import Answer

K, ROUNDS = 4, 8


@dataclass
class Inner:
    """Clients that note what they are asked; their logits say who and when."""

    asked: list = field(default_factory=list)
    restarted: list = field(default_factory=list)
    taught: list = field(default_factory=list)

    def train(self, header, client_ids, restarted=()):
        self.asked.append(list(client_ids))
        self.restarted.append(list(restarted))
        if not header.share:
            return Answer(None, None, (), 0)
        ids = torch.tensor(list(client_ids))
        logits = (10 * header.round + ids).float().reshape(-1, 1, 1).expand(-1, 3, 2).contiguous()
        return Answer(KnowledgeBank(ids, logits, torch.ones_like(ids)), None, (), 0)

    def distil(self, header, client_ids, teachers, now=None):
        self.taught.append(list(client_ids))
        assert teachers is None or teachers.client_ids.tolist() == list(client_ids)
        return Answer(None, None, (), 0)


@dataclass(frozen=True)
class Script:
    """Fates by round and client."""

    fates: dict
    max_age: int = 1

    def fate(self, client_id, round_, num_rounds, streams):
        return self.fates.get((round_, client_id), Fate())


def faulty(faults, inner=None, same_samples=lambda a, b: True, warmup=0):
    return Faulty(
        inner or Inner(),
        faults,
        num_clients=K,
        num_rounds=ROUNDS,
        warmup_rounds=warmup,
        streams=Streams(0),
        kind=PREDICTIONS,
        same_samples=same_samples,
    )


def header(round_, share=True):
    return Header("knfu", round_, share=share, evaluate=False, exchange=share)


def heard(answer):
    if answer.knowledge is None:
        return {}
    ids, first = answer.knowledge.client_ids.tolist(), answer.knowledge.logits[:, 0, 0].tolist()
    return dict(zip(ids, first, strict=True))


def test_only_those_who_answered_are_fused_and_taught():
    inner = Inner()
    one, two, three = Fate(gone_before=True), Fate(gone_after=True), Fate(lost=True)
    script = Script({(1, 0): one, (1, 1): two, (1, 2): three})
    clients = faulty(script, inner)
    answer = clients.train(header(1), range(K))
    assert heard(answer) == {1: 11, 3: 13}
    assert inner.asked == [[1, 2, 3]]
    assert answer.counts == {"participants": 2, "dropped_before": 1, "lost": 1}
    ids = answer.knowledge.client_ids
    teachers = Teachers(ids, torch.zeros(2, 3, 2), Space.LOGITS)
    assert clients.distil(header(1), ids.tolist(), teachers).counts == {"dropped_after": 1}
    assert inner.taught == [[3]]


def test_late_knowledge_is_used_up_to_its_age_and_its_client_is_busy_until_then():
    inner = Inner()
    script = Script({(1, 0): Fate(delay=1), (1, 1): Fate(delay=2)})
    clients = faulty(script, inner)
    assert heard(clients.train(header(1), range(K))) == {2: 12, 3: 13}
    second = clients.train(header(2), range(K))
    assert heard(second) == {0: 10, 2: 22, 3: 23}
    assert second.counts == {"participants": 3, "busy": 2, "late_used": 1}
    third = clients.train(header(3), range(K))
    assert heard(third) == {0: 30, 2: 32, 3: 33}
    assert third.counts["stale"] == 1
    assert inner.asked == [[0, 1, 2, 3], [2, 3], [0, 2, 3]]


def test_late_knowledge_about_other_samples_is_no_answer():
    clients = faulty(Script({(1, 0): Fate(delay=1)}), same_samples=lambda a, b: a == b)
    clients.train(header(1), range(K))
    answer = clients.train(header(2), range(K))
    assert 0 not in heard(answer)
    assert answer.counts["stale"] == 1


def test_a_copy_is_ignored():
    clients = faulty(Script({(1, 0): Fate(duplicated=True)}))
    assert heard(clients.train(header(1), range(K)))[0] == 10
    answer = clients.train(header(2), range(K))
    assert heard(answer)[0] == 20
    assert answer.counts == {"participants": 4, "duplicates": 1}


def test_nobody_answered_is_no_error():
    clients = faulty(Dropout(1.0))
    answer = clients.train(header(1), range(K))
    assert answer.knowledge is None
    assert answer.counts == {"participants": 0, "dropped_before": 4}
    assert clients.distil(header(1), range(K), None).failures == ()


def test_both_arms_suffer_the_same():
    faults, taught = Stragglers(0.5, max_delay=3, max_age=2), []
    for share in (True, False):
        inner = Inner()
        clients = faulty(faults, inner, warmup=1)
        for round_ in range(1, ROUNDS + 1):
            answer = clients.train(header(round_, share and round_ > 1), range(K))
            if round_ > 1:
                ids = sorted(heard(answer)) if share else list(range(K))
                clients.distil(header(round_), ids, None)
        taught.append((inner.asked, [ids for ids in inner.taught if ids]))
    assert taught[0] == taught[1]


def test_what_is_on_its_way_survives_a_checkpoint():
    script = Script({(1, 0): Fate(delay=1), (1, 1): Fate(duplicated=True)})
    first = faulty(script)
    first.train(header(1), range(K))
    second = faulty(script)
    second.restore(first.state())
    one, other = first.train(header(2), range(K)), second.train(header(2), range(K))
    assert heard(one) == heard(other)
    assert one.counts == other.counts


def test_a_restart_is_told_to_the_clients():
    inner = Inner()
    faulty(Script({(2, 3): Fate(restarted=True)}), inner).train(header(2), range(K))
    assert inner.restarted == [[3]]


def test_fates_are_drawn_by_the_seed_at_their_rates():
    def share(faults, name, rounds=range(2, 502), seed=0):
        streams = Streams(seed)
        drawn = [getattr(faults.fate(i, r, 600, streams), name) for i in range(4) for r in rounds]
        return np.mean([value > 0 for value in drawn])

    assert share(Dropout(0.5), "gone_before") == pytest.approx(0.5, abs=0.04)
    either = Dropout(0.5, "either")
    assert share(either, "gone_after") == pytest.approx(0.25, abs=0.04)
    assert share(Stragglers(0.3), "delay") == pytest.approx(0.3, abs=0.04)
    assert share(Messages(0.2, 0.4), "duplicated") == pytest.approx(0.4, abs=0.04)
    assert share(Restarts(0.1), "restarted") == pytest.approx(0.1, abs=0.03)
    assert share(Dropout(0.5), "gone_before") == share(Dropout(0.5), "gone_before")
    assert share(Dropout(0.5), "gone_before") != share(Dropout(0.5), "gone_before", seed=1)


def test_who_joins_late_comes_and_who_leaves_stays_away():
    churn, streams = Churn(0.5, 0.5), Streams(0)
    there = [[not churn.fate(i, r, 10, streams).away for r in range(1, 11)] for i in range(50)]
    for row in there:
        assert any(row)
        assert sum(a != b for a, b in zip([False, *row], [*row, False], strict=True)) == 2
    assert 10 < sum(not row[0] for row in there) < 40
    assert 10 < sum(not row[-1] for row in there) < 40


@pytest.mark.parametrize(
    "make", [lambda: Dropout(1.5), lambda: Dropout(0.5, "never"), lambda: Stragglers(max_delay=0)]
)
def test_rates_and_words_are_checked(make):
    with pytest.raises(ParameterError):
        make()
