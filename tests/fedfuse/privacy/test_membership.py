import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.errors import DataError
from fedfuse.privacy.membership import (
    Shadow,
    auc,
    features,
    judge,
    loss_scores,
    tpr_at,
)

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(SCORES, SCORES)
def test_the_auc_is_the_share_of_won_pairs(members, others):
    won = sum((m > o) + 0.5 * (m == o) for m in members for o in others)
    expected = won / (len(members) * len(others))
    found = auc(torch.tensor(members, dtype=torch.float64), torch.tensor(others).double())
    assert found == pytest.approx(expected)


@settings(max_examples=80, deadline=None)
@given(SCORES, SCORES, st.sampled_from([0.0, 0.1, 0.5]))
def test_the_tpr_is_the_best_of_all_thresholds_within_the_false_alarms(members, others, fpr):
    best = max(
        sum(m > cut for m in members) / len(members)
        for cut in range(-4, 5)
        if sum(o > cut for o in others) <= int(fpr * len(others))
    )
    found = tpr_at(torch.tensor(members).double(), torch.tensor(others).double(), fpr)
    assert found == pytest.approx(best)


def test_a_perfect_attack_and_a_guess():
    high, low = torch.arange(200.0) + 1000, torch.arange(200.0)
    assert judge(high, low).auc == judge(high, low).tpr == 1.0
    assert judge(low, low).auc == 0.5
    assert judge(low, low).tpr == pytest.approx(2 / 200)
    assert (judge(high, low[:30]).num_members, judge(high, low[:30]).num_others) == (200, 30)


def test_by_hand():
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    labels = torch.tensor([0, 1])
    log2, odds = 0.693147, 2.0
    torch.testing.assert_close(
        loss_scores(logits, labels).float(), torch.tensor([-log2, -2.126928])
    )
    found = features(logits, labels)
    torch.testing.assert_close(
        found[0].float(), torch.tensor([log2, 0.0, log2, -log2, 1.0]), atol=1e-5, rtol=0
    )
    assert float(found[1, 1]) == pytest.approx(-odds)
    assert float(found[1, 4]) == 0.0


def test_certain_predictions_have_finite_features():
    assert torch.isfinite(features(torch.tensor([[1e30, -1e30]]), torch.tensor([0]))).all()


def test_a_shadow_attack_finds_what_tells_members_apart():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2, 500, 3, generator=generator)
    draws[0, :, 1] += 2.0  # members differ in the second feature only
    attack = Shadow.fit(draws[0, :400], draws[1, :400])
    assert attack.weight.abs().argmax() == 1
    # Two normals two deviations apart: AUC = Phi(2 / sqrt 2) = 0.921.
    assert judge(attack(draws[0, 400:]), attack(draws[1, 400:])).auc == pytest.approx(
        0.921, abs=0.04
    )


def test_separable_and_constant_features_do_not_break_the_fit():
    members = torch.tensor([[1.0, 7.0], [2.0, 7.0]])
    others = torch.tensor([[-1.0, 7.0], [-2.0, 7.0]])
    attack = Shadow.fit(members, others)
    assert torch.isfinite(attack.weight).all()
    assert bool((attack(members) > 0).all())
    assert bool((attack(others) < 0).all())


def test_nobody_to_compare_with_is_named():
    with pytest.raises(DataError, match="members and non-members"):
        auc(torch.zeros(3), torch.zeros(0))
