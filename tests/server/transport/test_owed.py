"""Who rests gets the last average, once, before anything is asked of it; whoever is told why."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.exchange.models import SharedModels
from fedfuse.failure import Failure
from fedfuse.wire.encode import encode
from fedfuse.wire.messages import Header
from server.transport.answer import Answer
from server.transport.owed import Owing

HEADER = Header("fedavg", 3, share=True, evaluate=True, answers=True, taught=(0,))


class Clients:
    """Remember what they are asked, and hold what they took over."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[int], Header]] = []
        self.models: dict[int, list[float]] = {}
        self.fails: dict[int, bool] = {}

    def train(self, header: Header, ids: Sequence[int], restarted: Sequence[int] = ()) -> Answer:
        return self._answer("train", header, ids)

    def test(self, header: Header, ids: Sequence[int]) -> Answer:
        return self._answer("test", header, ids)

    def distil(self, header: Header, ids: Sequence[int], teachers: SharedModels | None) -> Answer:
        if teachers is not None:
            assert teachers.client_ids.tolist() == list(ids)
            models = zip(ids, teachers.vectors(), strict=True)
            self.models |= {i: m.tolist() for i, m in models if i not in self.fails}
        size = 0 if teachers is None else SharedModels.exchanged_bytes(encode(teachers))
        return self._answer("distil", header, ids, size)

    def _answer(self, what: str, header: Header, ids: Sequence[int], size: int = 0) -> Answer:
        self.asked.append((what, list(ids), header))
        failures = tuple(
            Failure(i, header.round, what, "no", "", is_mistake=False, quarantined=refused)
            for i, refused in self.fails.items()
            if i in ids
        )
        return Answer(None, None, failures, size, broadcast_bytes=min(size, 8))

    def said(self) -> list[tuple[str, list[int]]]:
        told = [(what, ids) for what, ids, _ in self.asked]
        self.asked.clear()
        return told


def average(ids: Sequence[int], *values: float) -> SharedModels:
    """Return the same model for all of these clients."""
    model = torch.tensor(values)
    return SharedModels.of(list(ids), [0] * len(ids), [model] * len(ids))


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.fixture
def owing(clients: Clients) -> Owing:
    """Clients of whom 1 and 2 rested while 0 was sent an average."""
    owing = Owing(clients, when_needed=True)
    owing.distil(HEADER, [0, 1, 2], average(range(3), 1.0), now={0})
    assert clients.said() == [("distil", [0])]
    return owing


def test_the_last_of_two_averages_comes_once_and_before_training(owing, clients):
    owing.distil(HEADER, [0, 1, 2], average(range(3), 2.0), now=set())
    assert clients.said() == []
    answer = owing.train(HEADER, [1])
    (first, second) = clients.asked
    assert (first[0], first[1], second[0], second[1]) == ("distil", [1], "train", [1])
    told = first[2]
    assert (told.taught, told.evaluate, told.share, told.answers) == ((), False, False, False)
    assert second[2] == HEADER
    assert clients.models == {0: [1.0], 1: [2.0]}
    assert (answer.num_bytes, answer.late_bytes) == (0, (12, 8))
    clients.said()
    assert owing.train(HEADER, [1]).late_bytes == (0, 0)
    assert clients.said() == [("train", [1])]


def test_who_missed_an_average_altogether_is_owed_the_one_before(owing, clients):
    owing.distil(HEADER, [0, 2], average([0, 2], 2.0), now={0})  # client 1 could not be reached
    owing.test(HEADER, [1, 2])
    assert clients.models == {0: [2.0], 1: [1.0], 2: [2.0]}


def test_who_is_taught_is_owed_nothing_older(owing, clients):
    owing.distil(HEADER, [0, 1], average([0, 1], 5.0), now={0, 1})
    owing.hand_down(HEADER, range(3))
    assert clients.models == {0: [5.0], 1: [5.0], 2: [1.0]}


@pytest.mark.parametrize("refused", [False, True])
def test_who_cannot_take_it_over_sits_out_and_gets_it_again(owing, clients, refused):
    clients.fails = {1: refused}
    answer = owing.train(HEADER, [0, 1])
    assert clients.said() == [("distil", [1]), ("train", [0])]
    assert [failure.client_id for failure in answer.failures] == [1]
    clients.fails = {}
    owing.train(HEADER, [1])
    again = [("distil", [1]), ("train", [1])]
    assert clients.said() == again[refused:]  # whose answer was rubbish has taken it over


def test_a_machine_that_lost_its_disk_begins_anew(owing, clients):
    owing.train(HEADER, [1, 2], restarted=[1])
    assert clients.said() == [("distil", [2]), ("train", [1, 2])]


def test_steps_without_a_teacher_come_after_what_is_owed(owing, clients):
    owing.distil(HEADER, [1], None)
    assert clients.said() == [("distil", [1]), ("distil", [1])]


def test_who_must_know_every_average_gets_it_at_once_and_is_not_tested(clients):
    owing = Owing(clients, when_needed=False)
    answer = owing.distil(HEADER, [0, 1, 2], average(range(3), 1.0), now={0})
    assert [(ids, header.evaluate) for _, ids, header in clients.asked] == [
        ([0], True),
        ([1, 2], False),
    ]
    assert (answer.num_bytes, answer.broadcast_bytes) == (3 * 12, 4)  # it leaves the server once
    clients.said()
    owing.train(HEADER, [1])
    assert clients.said() == [("train", [1])]


def test_what_is_owed_survives_in_a_checkpoint_and_is_held_once(owing, clients):
    owing.distil(HEADER, [2], average([2], 7.0, 8.0), now=set())
    owing.distil(HEADER, [3, 4], average([3, 4], 9.0), now=set())
    saved = owing.state()
    assert saved["values"].tolist() == [1.0, 7.0, 8.0, 9.0]
    other = Owing(clients, when_needed=True)
    other.restore(saved)
    other.hand_down(HEADER, range(9))
    assert clients.models == {0: [1.0], 1: [1.0], 2: [7.0, 8.0], 3: [9.0], 4: [9.0]}
    assert other.state() == {}  # as in checkpoints of versions that sent averages to all
    other.restore({})


@pytest.mark.parametrize("name", ["client_ids", "sizes", "values", "like", "another"])
def test_another_memory_is_refused(owing, name):
    saved: dict[str, Tensor] = owing.state()
    with pytest.raises(FedfuseError, match="What clients are owed does not fit"):
        owing.restore({**saved, name: torch.arange(7)})
