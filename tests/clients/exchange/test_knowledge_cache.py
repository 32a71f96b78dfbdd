"""FedCache by hand: who is like whom, whose mean teaches, and what is sent once."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from clients.exchange import KnowledgeCache
from clients.exchange.knowledge_cache import KNOWN
from clients.testing import Trial
from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.exchange.group_knowledge import SampleTeachers
from fedfuse.exchange.knowledge_cache import CachedSamples, CacheServer, relatives
from fedfuse.models.mlp import mlp
from fedfuse.models.plan import as_plan
from fedfuse.wire.encode import decode, encode
from fedfuse.wire.messages import Header

NAN = float("nan")


def sent(client_id: int, logits, labels=(), hashes=()) -> CachedSamples:
    numbers = torch.tensor([float(z) for row in logits for z in row])
    return CachedSamples(
        torch.tensor([client_id]),
        torch.tensor([len(numbers)]),
        torch.tensor([len(labels)]),
        torch.tensor([2 * len(hashes)]),
        numbers,
        torch.tensor(labels, dtype=torch.int32),
        torch.tensor([float(h) for row in hashes for h in row]),
    )


def down(fusion, client_id=None) -> list[list[float]]:
    teachers = fusion.teachers
    assert isinstance(teachers, SampleTeachers)
    row = 0 if client_id is None else teachers.client_ids.tolist().index(client_id)
    return teachers.split("logits")[row].reshape(-1, 2).tolist()


FIRST = sent(1, [(1, 0), (3, 0), (9, 9)], [0, 0, 1], [(1, 0), (0, 1), (1, 0)])
SECOND = sent(4, [(5, 2), (7, 4)], [0, 0], [(2, 0.2), (-1, 0)])


def test_the_mean_of_the_nearest_of_the_same_label_whoever_has_them():
    # Of label 0: a = (1, 0), b = (0, 1) of client 1; c = (2, 0.2), d = (-1, 0) of client 4.
    # Nearest to a: c, b; to b: c, a and d alike (the first); to c: a, b; to d: b, c. No other is 1.
    fusion = CacheServer(2, 2, 2)(CachedSamples.stack([SECOND, FIRST]), 1)
    a, b, c = (torch.tensor([x, y]) for x, y in ((1.0, 0.0), (3.0, 0.0), (5.0, 2.0)))
    assert down(fusion, 1)[:2] == [((c + b) / 2).tolist(), ((c + a) / 2).tolist()]
    assert str(down(fusion, 1)[2]) == str([NAN, NAN])
    assert down(fusion, 4) == [((a + b) / 2).tolist(), ((b + c) / 2).tolist()]
    assert fusion.metrics == {"related_others": 5 / 8}


def test_who_rests_is_heard_by_what_it_said_last_and_new_ones_join():
    server = CacheServer(2, 2, 1)
    assert str(down(server(SECOND, 1))) == str([[7.0, 4.0], [5.0, 2.0]])
    server(FIRST, 2)
    again = server(sent(4, [(0, 8), (0, 6)]), 3)  # without labels and hashes
    assert down(again) == [[1.0, 0.0], [3.0, 0.0]]
    assert down(server(sent(1, [(0, 0)] * 3), 4))[:2] == [[0.0, 8.0], [0.0, 8.0]]


def test_it_goes_on_from_a_checkpoint():
    server, other = CacheServer(2, 2, 2), CacheServer(2, 2, 2)
    server(CachedSamples.stack([FIRST, SECOND]), 1)
    other.restore(server.state())
    news = sent(4, [(0, 8), (0, 6)])
    assert down(server(news, 2)) == down(other(news, 2))
    assert server.state().keys() == other.state().keys()


def test_logits_of_samples_that_nobody_told_of_are_their_senders_fault():
    server = CacheServer(2, 2, 1)
    both = CachedSamples.stack([FIRST, sent(4, [(0, 8), (0, 6)])])
    with pytest.raises(KnowledgeError, match="knows nothing of") as error:
        server.check_bank(both)
    assert error.value.client_ids == (4,)
    strange = sent(3, [(0, 8)], [2], [(1, 1)])
    with pytest.raises(KnowledgeError, match="'labels' of client 3"):
        server.check_bank(strange)
    server(FIRST, 1)
    server.check_bank(sent(1, [(0, 8), (0, 6), (1, 1)]))  # who has told once need not again


def test_blocks_change_nothing():
    draw = torch.Generator().manual_seed(0)
    hashes, labels = torch.randn(40, 5, generator=draw), torch.randint(3, (40,), generator=draw)
    whole = relatives(hashes, labels, 4)
    assert torch.equal(whole, relatives(hashes, labels, 4, block=7))
    assert not (whole == torch.arange(40).unsqueeze(1)).any(), "nobody is its own relative"
    assert (labels[whole] == labels.unsqueeze(1)).all()


def header(round_: int) -> Header:
    return Header("check", round_, share=True, evaluate=False)


def test_labels_and_hashes_travel_until_an_answer_has_come():
    way = KnowledgeCache(width=3)
    trial = Trial("", way, as_plan(partial(mlp, hidden=4, depth=1)))
    nodes, kind, combine = trial._begin(way, [(0, 1, 2)])
    (node,) = nodes

    def upload(round_: int) -> CachedSamples:
        shared, _, failures = node.train(header(round_), (0, 1, 2))
        assert not failures
        return shared

    counts = [8, 12, 16]
    with_all = [4 * n * (4 + 3 + 1) for n in counts]  # classes, hash, label
    bare = [4 * n * 4 for n in counts]
    assert [len(m) for m in upload(1).messages()] == with_all
    second = upload(2)  # the first was lost on its way
    assert [len(m) for m in second.messages()] == with_all
    taught = combine(second, 2).teachers
    node.distil(header(2), (0, 1), taught.rows(torch.tensor([0, 1])))
    third = upload(3)
    assert [len(m) for m in third.messages()] == [*bare[:2], with_all[2]]
    assert KNOWN in node.states.memory(0)
    arrays = {name: array.copy() for name, array in encode(third).items()}
    decode(CachedSamples, arrays, kind.expect((0, 1, 2), 7, 4))
    arrays["sizes"][0], arrays["labels"] = 5, arrays["labels"][:5]  # neither all nor none
    arrays["sizes"][2] = 0
    with pytest.raises(KnowledgeError, match="'labels' has other lengths than were asked for"):
        decode(CachedSamples, arrays, kind.expect((0, 1, 2), 7, 4))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: KnowledgeCache(alpha=-1), "alpha"),
        (lambda: KnowledgeCache(temperature=0), "temperature"),
        (lambda: KnowledgeCache(neighbours=0), "neighbours"),
        (lambda: KnowledgeCache(width=0), "width"),
    ],
)
def test_settings_that_make_no_sense(wrong, says):
    with pytest.raises(ParameterError, match=says):
        wrong()
