"""Adversaries: who they are, what they send, and that the others are left alone."""

from __future__ import annotations

import pytest
import torch

from fedfuse.attack import (
    AttackStage,
    ConstantClass,
    FreeRider,
    Imitate,
    LabelFlip,
    LittleIsEnough,
    PermutedLabels,
    RandomLogits,
    adversaries,
)
from fedfuse.attack.stage import RECEIVED
from fedfuse.errors import FedfuseError, ParameterError
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank

SHARES = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]])
ATTACKS = [
    LabelFlip(),
    PermutedLabels(),
    RandomLogits(),
    ConstantClass(),
    LittleIsEnough(),
    Imitate(),
    FreeRider(),
]


def bank(ids=(0, 1, 2, 3), samples=20):
    logits = torch.randn(4, samples, 3, generator=torch.Generator().manual_seed(0))[list(ids)]
    return KnowledgeBank(torch.tensor(ids), logits, torch.ones(len(ids), dtype=torch.int64))


def context(ids=(0, 1, 2, 3), round_=2, samples=20, memory=None):
    memory = {i: {} for i in ids} if memory is None else memory
    counts = (100 * SHARES[list(ids)]).long()
    return SharingContext("knfu", round_, torch.arange(samples), counts, memory, Streams(0))


def test_who_attacks_is_drawn_once_and_somebody_is_left():
    assert adversaries(0.3, 10, Streams(1)) == adversaries(0.3, 10, Streams(1))
    assert len(adversaries(0.3, 10, Streams(1))) == 3
    assert len(adversaries(0.01, 10, Streams(1))) == 1
    assert len(adversaries(0.99, 2, Streams(1))) == 1
    assert len({adversaries(0.3, 10, Streams(seed)) for seed in range(9)}) > 1


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_benign_clients_are_untouched_and_cohorts_do_not_matter(attack):
    stage = AttackStage(attack, (1, 3), SHARES)
    honest, sent = bank(), stage(bank(), context())
    assert torch.equal(sent.logits[[0, 2]], honest.logits[[0, 2]])
    assert bool(sent.logits.isfinite().all())
    alone = stage(bank((3,)), context((3,)))
    assert torch.equal(alone.logits[0], sent.logits[3])
    labels = torch.tensor([0, 1, 2, 2])
    assert torch.equal(stage.relabel(0, labels), labels)
    lies = not torch.equal(sent.logits[[1, 3]], honest.logits[[1, 3]])
    assert lies or not torch.equal(stage.relabel(1, labels), labels)


def test_labels_are_flipped_and_permuted_without_a_fixed_point():
    labels = torch.arange(7)
    assert LabelFlip().labels(labels, 7).tolist() == [6, 5, 4, 3, 2, 1, 0]
    permuted = PermutedLabels().labels(labels, 7)
    assert sorted(permuted.tolist()) == labels.tolist()
    assert bool((permuted != labels).all())


def test_an_imitator_has_its_victims_class_distribution():
    stage = AttackStage(Imitate(margin=30.0), (1,), SHARES[[0, 1]])
    sent = stage(bank((0, 1)), context((0, 1)))
    mean = sent.logits[1].softmax(dim=1).mean(dim=0)
    torch.testing.assert_close(mean, SHARES[0], atol=1e-4, rtol=0)


def test_colluders_move_the_same_way_by_as_much_as_their_logits_vary():
    stage = AttackStage(LittleIsEnough(deviations=2.0), (1, 3), SHARES)
    honest, sent = bank().logits, stage(bank(), context()).logits
    moved = (sent - honest)[[1, 3]] / honest[[1, 3]].std(dim=1, unbiased=False, keepdim=True)
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 2.0))
    assert torch.equal(moved[0].sign(), moved[1].sign())


def test_a_free_rider_echoes_what_it_was_sent():
    stage = AttackStage(FreeRider(), (1,), SHARES)
    assert not stage(bank(), context()).logits[1].any()
    teacher = torch.rand(20, 3).softmax(dim=1)
    memory = {i: {RECEIVED: teacher} for i in range(4)}
    echoed = stage(bank(), context(memory=memory)).logits[1]
    torch.testing.assert_close(echoed.softmax(dim=1), teacher)
    other = stage(bank(samples=9), context(samples=9, memory=memory)).logits[1]
    assert not other.any(), "what was about other samples is no answer"


def test_what_a_free_rider_echoes_is_read_as_it_was_sent_at_any_temperature():
    teacher = torch.rand(20, 3).softmax(dim=1)
    teacher[4] = 0  # a sample that nobody answered is not sent
    memory = {i: {RECEIVED: teacher} for i in range(4)}
    stage = AttackStage(FreeRider(temperature=4.0), (1,), SHARES)
    echoed = stage(bank(), context(memory=memory)).logits[1]
    teacher[4] = 1 / 3
    torch.testing.assert_close((echoed / 4).softmax(dim=1), teacher)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_a_fraction_that_leaves_nobody_is_refused(fraction):
    with pytest.raises(ParameterError, match="fraction"):
        Imitate(fraction)


def test_an_attack_of_a_users_own_is_checked():
    class Broken(RandomLogits):
        def predictions(self, logits, scene):
            return logits / 0

    with pytest.raises(FedfuseError, match="broke its promise for client 1"):
        AttackStage(Broken(), (1,), SHARES)(bank(), context())
