"""The last teacher beside local training: by hand, when there is none, on every trainer."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from clients.exchange import Predictions
from clients.exchange.kept_teacher import KeptTeacher, WeighedKL, pairs
from fedfuse.augment.partial_mixup import mixed
from fedfuse.distill import KL
from fedfuse.errors import ParameterError
from fedfuse.rng import Streams
from fedfuse.train.work import Work, schedule
from fedfuse.types import Space, Teachers
from fedfuse.uptake.rare_classes import rarity

WORDS = ["method=mean", "models=save", "baseline=none", "checkpoint.every=0", "warmup_rounds=0"]
WORDS += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]
KEEPS = [*WORDS, "exchange=kept_teacher"]


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def kept_share(run) -> list[float]:
    found = run.metrics
    return found[(found.metric == "kept_share") & (found.phase == "fused")].value.tolist()


def test_H2_the_term_by_hand() -> None:
    # n = (6, 3, 1): omega = (1/9, 2/9, 2/3), so w = 3 omega = (1/3, 2/3, 2).
    rare = 3 * rarity(torch.tensor([[6, 3, 1]]))[0]
    torch.testing.assert_close(rare, torch.tensor([0.333333, 0.666667, 2.0]), atol=1e-5, rtol=0)
    student, teacher = torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    wide = torch.cat([teacher, rare[teacher.argmax(dim=1)].unsqueeze(1)], dim=1)
    got = WeighedKL(KL())(student, wide)
    # 2 log(3) / 3; 1/3 log(3/2) / 3
    expected = torch.tensor([2 * math.log(3) / 3, math.log(1.5) / 9])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_H2_samples_targets_and_weights_are_mixed_alike() -> None:
    rows, part, partner = torch.eye(3), torch.tensor([0.7, 1.0, 0.0]), torch.tensor([1, 2, 0])
    expected = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(mixed(rows, part, partner), expected)
    images = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed(images, part, partner)[0], 0.7 * images[0] + 0.3 * images[1])
    # .7 of class 2 and the rest of class 0: omega = .7 * 2/3 + .3 * 1/9 = .5
    omega = rarity(torch.tensor([[6, 3, 1]]))[0][[2, 0]]
    half = mixed(omega, torch.tensor([0.7, 0.7]), torch.tensor([1, 1]))[0]
    torch.testing.assert_close(half, torch.tensor(0.5), atol=1e-5, rtol=0)


def test_H2_every_sample_draws_its_own_partner_and_share() -> None:
    part, partner = pairs(400, 2.0, Streams(0), 3, 5)
    assert ((part > 0) & (part < 1)).all()
    assert part.unique().numel() > 390
    assert part.mean() == pytest.approx(0.5, abs=0.05)
    assert part.var() == pytest.approx(1 / 20, abs=0.01)  # of Beta(2, 2)
    assert partner.unique().numel() > 200
    again, other = pairs(400, 2.0, Streams(0), 3, 5), pairs(400, 2.0, Streams(0), 3, 6)
    assert torch.equal(part, again[0])
    assert torch.equal(partner, again[1])
    assert not torch.equal(part, other[0])


def test_H2_without_a_teacher_or_a_weight_local_training_is_what_it_was(simulate) -> None:
    once = "num_rounds=1"
    assert torch.equal(weights(simulate(*WORDS, once)), weights(simulate(*KEEPS, once)))
    plain, nothing = simulate(*WORDS), simulate(*KEEPS, "exchange.kept_teacher.weight=0")
    assert torch.equal(weights(plain), weights(nothing))


@pytest.mark.parametrize("mixing", [0, 2])
def test_H2_one_after_the_other_and_all_at_once_agree(simulate, mixing: int) -> None:
    words = [*KEEPS, "partitioner=dirichlet", "partitioner.alpha=0.3"]
    words += [f"exchange.kept_teacher.mixing={mixing}"]
    loop, batched = (simulate(*words, f"trainer={trainer}") for trainer in ("loop", "batched"))
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)
    nothing = simulate(*words, "exchange.kept_teacher.weight=0")
    assert float((weights(loop) - weights(nothing)).abs().max()) > 1e-4
    shares = kept_share(loop)
    assert len(shares) == 6
    assert all(0 < share <= 1 for share in shares)


def test_H2_clients_with_and_without_a_teacher_train_together(simulate) -> None:
    """Who has not been taught yet trains alone, beside others who have."""
    words = [*KEEPS, "participation=round_robin", "participation.fraction=0.67", "num_rounds=3"]
    loop, batched = (simulate(*words, f"trainer={trainer}") for trainer in ("loop", "batched"))
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)


def tools(counts: list[int], held_out: torch.Tensor | None = None) -> SimpleNamespace:
    """Return what one client with these samples of each class has; a round is about 4 of 6."""
    memory: dict[str, torch.Tensor] = {}
    index = torch.tensor([5, 1, 0, 3])
    return SimpleNamespace(
        memory=lambda _: memory,
        found={},
        streams=Streams(0),
        plan=SimpleNamespace(distill_batch_size=2),
        work_plan=SimpleNamespace(held_out=held_out),
        inputs=SimpleNamespace(
            class_counts=lambda _: torch.tensor([counts]),
            rounds=SimpleNamespace(index=lambda _: index),
            whole_public=lambda: torch.arange(6.0).unsqueeze(1),
            data=SimpleNamespace(num_classes=2),
        ),
    )


def test_H2_only_answered_samples_are_kept_and_weighed_by_rarity() -> None:
    """Of four samples one has no teacher, one is held out and one names a class that is lacked."""
    targets = torch.tensor([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]])
    came = Teachers(
        torch.tensor([0]),
        targets,
        Space.PROBABILITIES,
        sample_weight=torch.tensor([[1.0, 0.0, 1.0, 0.5]]),
    )
    private = Work(torch.zeros(3, 1), torch.zeros(3), KL(), schedule(3, 1, 5, Streams(0).torch()))
    held_out = torch.tensor([False, False, False, False, False, True])
    for given, rows, weights_ in ((None, [5, 0, 3], [2.0, 0, 1]), (held_out, [0, 3], [0.0, 1])):
        ours, kept = tools([7, 0], given), KeptTeacher(weight=0.3)
        assert kept.beside([0], [private], ours, 1) == [private]  # nothing has come yet
        kept.keep([0], ours, 1, came)
        (work,) = kept.beside([0], [private], ours, 2)
        assert work.anchor is not None
        assert work.anchor_weight == 0.3
        assert work.anchor.inputs.flatten().tolist() == rows
        assert work.anchor.targets[:, 2].tolist() == weights_
        assert work.anchor.schedule.num_steps == 5
        assert ours.found == {0: {"kept_share": len([w for w in weights_ if w]) / 4}}
    ours = tools([7, 0], torch.ones(6, dtype=torch.bool))
    kept.keep([0], ours, 1, came)
    (work,) = kept.beside([0], [private], ours, 2)
    assert work.anchor is not None
    assert work.anchor.targets.tolist() == [[0, 0, 0]]  # nothing that counts


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weight": -1}, "'weight' parameter.*at least 0"),
        ({"weight": True}, "'weight' parameter"),
        ({"unseen": "min"}, "'unseen' parameter.*zero, max"),
        ({"mixing": math.nan}, "'mixing' parameter"),
        ({"temperature": 0}, "'temperature' parameter"),
    ],
)
def test_H2_refuses(given, words) -> None:
    with pytest.raises(ParameterError, match=words):
        KeptTeacher(**given)


def test_H2_refuses_what_is_no_kept_teacher() -> None:
    with pytest.raises(ParameterError, match=r"'kept_teacher' parameter.*a KeptTeacher"):
        Predictions(kept_teacher=1.0)  # type: ignore[arg-type]
