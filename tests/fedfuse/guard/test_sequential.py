"""The guard with an error rate: what it deploys by hand, and how often it errs in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fedfuse.guard import Choice, Paired, Sequential
from fedfuse.guard.sequential import weighted_wealth

SURE, UNSURE, WRONG = (0.98, 0.02), (0.55, 0.45), (0.45, 0.55)


def answers(local: list[tuple[float, float]], fused: list[tuple[float, float]]) -> Paired:
    """Return answers to samples of class 0, all alike."""
    ours, theirs = (
        torch.tensor(p, dtype=torch.float64).reshape(-1, 2).log() for p in (local, fused)
    )
    count = len(local)
    return Paired(ours, theirs, torch.zeros(count, dtype=torch.int64), torch.ones(count).double())


def test_most_often_there_is_not_enough_data_and_a_half_is_deployed() -> None:
    few = answers([WRONG] * 5, [SURE] * 5)
    assert Sequential()(few, few, 1) == (Choice(0.5, False), Choice(1.0, decided=False))
    none = answers([], [])
    assert Sequential(share=0.25)(none, none, 3) == (
        Choice(0.25, False),
        Choice(1.0, decided=False),
    )


def test_the_fused_model_alone_needs_the_evidence_of_a_federation() -> None:
    # Ten wins are worth (2^11 - 1) / 11 = 186: enough for 9 clients at 0.05, not for 10.
    won = answers([WRONG] * 10, [SURE] * 10)
    assert Sequential().own(won, 9) == Choice(1.0, decided=True)
    assert Sequential().own(won, 10) == Choice(0.5, decided=False)
    assert Sequential(alpha=0.1).own(won, 10) == Choice(1.0, decided=True)
    # Where samples have weights the bets are those of a grid, of which ten wins bring 170.
    assert Sequential().balanced(won, 8) == Choice(1.0, decided=True)
    assert Sequential().balanced(won, 9) == Choice(1.0, decided=False)


def test_back_to_the_twin_goes_who_loses_with_the_mixture() -> None:
    # Seven wins are worth (2^8 - 1) / 8 = 32 and six 18: 1 / 0.05 lies between, whatever K is.
    harmed = answers([UNSURE] * 7, [(0.02, 0.98)] * 7)
    assert Sequential().own(harmed, 1000) == Choice(0.0, decided=True)
    assert Sequential().own(answers([UNSURE] * 6, [(0.02, 0.98)] * 6), 1000).share == 0.5
    # A mixture that the twin outvotes loses nothing, though the fused model alone would.
    hedged = answers([SURE] * 30, [WRONG] * 30)
    assert Sequential().own(hedged, 1) == Choice(0.5, decided=False)
    # Where all classes are alike there is no mixture; 30 bets of the grid are plenty.
    assert Sequential().balanced(hedged, 1000) == Choice(0.0, decided=True)


def test_a_class_counts_alike_however_many_samples_it_has() -> None:
    # 40 samples of a class that the second gets right, 10 of one that the first does.
    first = torch.arange(50) >= 40
    alike = torch.where(first, 1 / 10, 1 / 40).double()
    assert weighted_wealth(first, ~first, torch.ones(50).double()) < 0.5
    assert weighted_wealth(first, ~first, alike) < 20  # as many points won as lost
    assert weighted_wealth(~first, first, alike) < 20
    heavy = torch.where(first, 1.0, 0.01).double()
    assert weighted_wealth(first, ~first, heavy) > 20


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_at_most_alpha_of_federations_deploy_the_fused_model_where_it_is_no_better(
    shared: float,
) -> None:
    """Ten clients, thirty answers each, half of them discordant; also if clients are alike."""
    alpha, draw, guard = 0.2, np.random.default_rng(4), Sequential(alpha=0.2)
    sure, wrong = torch.tensor([0.9, 0.1]).double().log(), torch.tensor([0.1, 0.9]).double().log()
    weight, labels = torch.ones(30).double(), torch.zeros(30, dtype=torch.int64)
    erred = 0
    runs = 300
    for _ in range(runs):
        common = draw.choice([-1, 0, 0, 1], 30)
        told = []
        for _ in range(10):
            own = np.where(draw.random(30) < shared, common, draw.choice([-1, 0, 0, 1], 30))
            won, lost = torch.tensor(own == 1)[:, None], torch.tensor(own == -1)[:, None]
            pairs = Paired(
                torch.where(won, wrong, sure), torch.where(lost, wrong, sure), labels, weight
            )
            told.append(guard.own(pairs, 10).share == 1.0)
        erred += any(told)
    assert erred / runs <= alpha + 3 * math.sqrt(alpha / runs)


@pytest.mark.parametrize(
    "wrong", [{"share": 1.5}, {"share": math.nan}, {"public_fold": 1.0}, {"public_fold": True}]
)
def test_what_is_no_share_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Exception, match=f"'{next(iter(wrong))}' parameter of Sequential"):
        Sequential(**wrong)
