"""Requests between a server and its clients: what is asked for, in which bytes, what is told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from clients.sharing.channel import ClientChannel
from fedfuse.codec import Channel
from fedfuse.exchange.heads import Heads
from fedfuse.exchange.kind import Kind
from fedfuse.fusion.neighbours import All as AllNeighbours
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.fusion.rules import MeanProbabilities
from fedfuse.fusion.scorers import Uniform
from fedfuse.payload import for_all
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds
from fedfuse.types import KnowledgeBank, PublicSet
from fedfuse.user_code import PartError
from fedfuse.wire.encode import Expectation, decode, spread
from fedfuse.wire.messages import TEACHERS, Header
from server.fusion.combine import FusePredictions
from server.fusion.requests import ASKED, LOSS, Requests
from server.fusion.wishes import WISHED, HeedWishes
from server.transport.channel import ServerChannel, distinct_bytes
from server.transport.requests import compose

K, P, C = 3, 10, 2
ROWS = torch.zeros(K, P, dtype=torch.bool)
ROWS[0, [1]] = ROWS[1, [1, 9]] = ROWS[2, :3] = True


@dataclass
class Fixed:
    """Ask for what it was made with, and keep what it is told."""

    wanted: torch.Tensor
    told: list[tuple[object, ...]] = field(default_factory=list)
    pseudo_labels: bool = False

    def __call__(self, round, index, client_ids):  # noqa: A002
        return self.wanted if self.wanted.ndim == 1 else self.wanted[list(client_ids)]

    def note(self, *told):
        self.told.append(told)


def rounds_of(labels=None) -> PublicRounds:
    return PublicRounds(All(), PublicSet(np.zeros((P, 1), np.float32), labels, "test"), Streams(0))


def requests(wanted, labels=None, **changed) -> Requests:
    return Requests(Fixed(wanted, **changed), rounds_of(labels))


@pytest.fixture
def speaking(monkeypatch):
    """A server that may make up messages."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def sent(hosts, wanted, share=True):
    channel = ServerChannel(Channel(), None, lambda _: None, requests(wanted))
    header = Header("method", 1, share=share, evaluate=False)
    return compose(hosts, "train", header, [0, 1, 2], None, (), channel)


@pytest.mark.parametrize(
    "hosts", [{7: (0, 1, 2)}, {7: (0, 2), 8: (1,)}, {1: (0,), 2: (1,), 3: (2,)}]
)
def test_every_client_is_told_its_row_in_an_eighth_of_a_byte_a_sample(speaking, hosts):
    made = sent(hosts, ROWS)
    assert made.asked_bytes == K * 2, "whoever hosts whom"
    octets = {i: ROWS[i].numpy() for i in range(K)}
    for message in made.messages:
        ids = made.asked[message.metadata.dst_node_id]
        bits = message.content.array_records["clients"]["request"].numpy()
        for row, client_id in enumerate(ids):
            packed = np.packbits(octets[client_id], bitorder="little")
            assert bits[row].tolist() == packed.tolist()
    one = sent(hosts, ROWS[2])
    assert one.asked_bytes == K * 2
    everything = sent(hosts, torch.ones(P, dtype=torch.bool))
    assert everything.asked_bytes == 0, "all is what is asked for without a word"
    assert sent(hosts, ROWS, share=False).asked_bytes == 0


@pytest.mark.parametrize("hosts", [{7: (0, 1, 2)}, {7: (0, 2), 8: (1,)}])
def test_what_all_clients_get_travels_once_to_a_node_and_counts_for_each(speaking, hosts):
    draw = torch.Generator().manual_seed(0)
    heads, vectors = torch.randn(P, C, generator=draw), torch.randn(4, generator=draw)
    down = Heads(torch.arange(K), for_all(heads, K), generator=for_all(vectors, K))
    assert distinct_bytes(down) == heads.nbytes + vectors.nbytes
    header = Header("method", 1, share=False, evaluate=False)
    made = compose(hosts, "train.distil", header, [0, 1, 2], down, (), ServerChannel())
    assert made.num_bytes == K * (heads.nbytes + vectors.nbytes)
    for message in made.messages:
        ids = made.asked[message.metadata.dst_node_id]
        record = message.content.array_records[TEACHERS]
        assert [len(record[name].numpy()) for name in ("heads", "generator")] == [1, 1]
        told = {name: array.numpy() for name, array in record.items()}
        kind = Kind(Heads, Heads, {"H": C, "W": 4}, down=frozenset({"generator"}))
        arrived = decode(Heads, spread(Heads, told), kind.expect(ids, P, P, down=True))
        assert torch.equal(arrived.heads, heads.expand(len(ids), P, C))
        assert torch.equal(arrived.generator, vectors.expand(len(ids), 4))


def bank(mask=None, wishes=None) -> KnowledgeBank:
    logits = torch.randn(K, P, C, generator=torch.Generator().manual_seed(0))
    return KnowledgeBank(torch.arange(K), logits, torch.ones(K).long(), mask=mask, wishes=wishes)


def test_clients_answer_for_what_they_were_asked_and_wishes_are_a_bit_a_sample():
    client = ClientChannel(requested={i: ROWS[i] for i in range(K)})
    parcel, _ = client.write(
        bank(mask=torch.ones(K, P, dtype=torch.bool)), {i: {} for i in range(K)}
    )
    assert torch.equal(parcel.encoded.mask, ROWS)
    assert parcel.num_bytes == int(ROWS.sum()) * C * 4 + K * (2 + 8)
    parcel, _ = ClientChannel().write(bank(wishes=ROWS), {i: {} for i in range(K)})
    assert parcel.num_bytes == K * (P * C * 4 + 2 + 8)
    server = ServerChannel()
    read = server.read(KnowledgeBank, parcel.arrays(), Expectation((0, 1, 2), P, C))
    assert torch.equal(read.wishes, ROWS)
    assert torch.equal(read.logits, bank().logits)
    one = parcel.rows(torch.tensor([1]))
    assert torch.equal(one.extras["wishes"], ROWS[1:2])


@pytest.mark.parametrize("labels", [None, np.arange(P) % C, np.arange(P)])
def test_a_requester_is_told_of_every_fusion_and_labels_only_if_it_says_so(labels):
    """Labels of other classes than the clients' are no labels."""
    for reads in (False, True):
        asks = requests(ROWS, labels, pseudo_labels=reads)
        pipeline = Pipeline(Uniform(), AllNeighbours(), MeanProbabilities())
        fuse = FusePredictions(pipeline, asks.rounds, torch.device("cpu"), requests=asks)
        fusion = fuse(bank(ROWS), 4)
        [(told, teachers, given, round_, index)] = asks.part.told
        assert torch.equal(told.logits, bank().logits)
        assert teachers is fusion.teachers
        assert (round_, index.tolist()) == (4, list(range(P)))
        ours = labels is not None and labels.max() < C
        assert (given is not None) == (reads and ours)
        assert fusion.metrics[ASKED] == pytest.approx(2.0)
        assert fusion.metrics["left_out_by_masks"] == 0
        assert fusion.metrics["left_out"] == 0, "of what was asked for nothing is missing"
        answered = ROWS.any(dim=0).nonzero().flatten()
        mean = torch.stack(
            [bank().logits[ROWS[:, p], p].softmax(-1).mean(dim=0) for p in answered.tolist()]
        )
        truth = torch.tensor(labels)[answered] if ours else mean.argmax(dim=1)
        logs = bank().logits[:, answered].log_softmax(-1)
        wrong = -logs.gather(2, truth.expand(K, -1).unsqueeze(2)).squeeze(2)
        there = ROWS[:, answered].float()
        expected = ((wrong * there).sum(dim=0) / there.sum(dim=0)).mean()
        assert fusion.metrics[LOSS] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (torch.zeros(P, dtype=torch.bool), "asks for nothing"),
        (torch.ones(K, P), "did not say what it asks for"),
        (torch.ones(P + 1, dtype=torch.bool), "did not say what it asks for"),
        ((ROWS & (torch.arange(K) > 0).unsqueeze(1)), "asks for nothing"),
    ],
)
def test_an_impossible_request_names_its_part(wanted, words):
    with pytest.raises(PartError, match=f"The requester Fixed {words}"):
        requests(wanted).request(1, [0, 1, 2])


def test_what_nobody_wished_for_is_not_taught():
    pipeline = Pipeline(Uniform(), AllNeighbours(), MeanProbabilities())
    fuse = FusePredictions(pipeline, rounds_of(), torch.device("cpu"))
    mask = torch.ones(K, P, dtype=torch.bool)
    mask[:, 1] = False
    fusion = HeedWishes(fuse)(bank(mask, ROWS), 1)
    assert torch.equal(fusion.teachers.sample_weight > 0, ROWS & mask)
    assert fusion.metrics[WISHED] == pytest.approx(2.0)
    parcel = ServerChannel().write(fusion.teachers, 1)
    answered = int((ROWS & mask).sum())
    assert parcel.num_bytes == answered * C * 4 + K * math.ceil(P / 8)
    plain = fuse(bank(mask), 1)
    assert torch.equal(HeedWishes(fuse)(bank(mask), 1).teachers.targets, plain.teachers.targets)
