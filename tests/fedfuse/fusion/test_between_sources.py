"""Rules that compare sources sample by sample: B4, B5 and B6 of the mechanisms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from fedfuse.errors import ParameterError
from fedfuse.fusion import All, KnFu, MeanLogits, MeanProbabilities, Pipeline, Uniform
from fedfuse.fusion.better_sources import BetterSources, quality
from fedfuse.fusion.contrastive import Contrastive, picked_out, reference
from fedfuse.fusion.homeostatic import HomeostaticMix, sources_spread, teachers_share
from fedfuse.testing import check_rule, example_bank
from fedfuse.types import KnowledgeBank
from fedfuse.uptake import homeostatic

MEAN = MeanProbabilities()
RULES = [
    *(BetterSources(), BetterSources("label", 0.2), BetterSources(temperature=3.0)),
    *(HomeostaticMix(MEAN), HomeostaticMix(MeanLogits(), 0.0, 1.0, "batch", 2.0)),
    *(Contrastive(), Contrastive(tau=0.1, block=1, temperature=2.0)),
]
NAMES = {BetterSources: "B4", HomeostaticMix: "B5", Contrastive: "B6"}


def of(logits: torch.Tensor) -> KnowledgeBank:
    ids = torch.arange(len(logits))
    return KnowledgeBank(ids, logits, torch.ones_like(ids))


def bank(*rows) -> KnowledgeBank:
    """A bank of these probabilities, one row of samples a client."""
    return of(torch.tensor(rows).log())


def uniform(num_clients: int, dtype=torch.float32) -> torch.Tensor:
    return torch.full((num_clients, num_clients), 1 / num_clients, dtype=dtype)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{NAMES[type(rule)]}-{rule}")
def test_rules_keep_their_promises_and_the_banks_precision(rule):
    check_rule(rule)
    known = example_bank(4, 6, 5)
    labels = torch.arange(6) % 5
    made = Pipeline(KnFu(), All(), rule)(replace(known, logits=known.logits.double()), labels)
    assert made.teachers.targets.dtype == torch.float64
    single = Pipeline(KnFu(), All(), rule)(known, labels)
    torch.testing.assert_close(made.teachers.targets.float(), single.teachers.targets)


# -- B4: better_sources ------------------------------------------------------------------------


def test_B4_the_surer_one_teaches_and_the_other_does_not():
    made = BetterSources()(bank([[0.9, 0.1]], [[0.6, 0.4]]), uniform(2))
    expected = torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]]])
    torch.testing.assert_close(made.targets, expected, atol=1e-5, rtol=0)
    assert made.sample_weight.tolist() == [[0.0], [1.0]]
    assert made.metrics == {"taken_share": 0.5}


def test_B4_of_two_clients_exactly_one_teaches_and_alike_ones_do_not():
    known = example_bank(2, 50, 4)
    weight = BetterSources()(known, uniform(2)).sample_weight
    assert torch.equal(weight.sum(dim=0), torch.ones(50))
    assert 0 < float(weight[0].mean()) < 1
    alike = replace(known, logits=known.logits[:1].expand(2, -1, -1))
    made = BetterSources()(alike, uniform(2))
    assert not made.sample_weight.any()
    torch.testing.assert_close(made.targets, alike.logits.softmax(-1))


def test_B4_weights_of_the_better_ones_are_renormalised_and_worse_ones_are_not_heard():
    four = bank([[0.5, 0.5]], [[0.9, 0.1]], [[0.2, 0.8]], [[0.55, 0.45]])
    weights = torch.tensor([[0.4, 0.3, 0.1, 0.2]] * 4)
    made = BetterSources(margin=0.1)(four, weights)
    told = (0.3 * 0.9 + 0.1 * 0.2) / 0.4
    torch.testing.assert_close(made.targets[0, 0, 0], torch.tensor(told))
    torch.testing.assert_close(made.targets[2, 0, 0], torch.tensor(0.2))  # .9 - .8 is no .1
    assert made.sample_weight.flatten().tolist() == [1.0, 0.0, 0.0, 1.0]
    deaf = BetterSources()(four, torch.eye(4))
    assert not deaf.sample_weight.any(), "nobody is better than itself"


def test_B4_by_label_the_lower_cross_entropy_teaches():
    two = bank([[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.6, 0.4]])
    labels = torch.tensor([0, 1])
    found = quality(two.logits, 1.0, labels)
    expected = torch.stack([-cross_entropy(rows, labels, reduction="none") for rows in two.logits])
    torch.testing.assert_close(found, expected)
    made = BetterSources(by="label")(two, uniform(2), labels)
    assert made.sample_weight.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    wide = BetterSources(by="label", margin=0.5)(two, uniform(2), labels)  # log(.9/.6) is .41
    assert wide.sample_weight.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert BetterSources(by="label").needs_labels
    assert not BetterSources().needs_labels


def test_B4_who_did_not_answer_is_taught_by_all_who_did_and_teaches_nobody():
    three = bank([[0.99, 0.01]], [[0.6, 0.4]], [[0.8, 0.2]])
    masked = replace(three, mask=torch.tensor([[False], [True], [True]]))
    made = BetterSources()(masked, uniform(3))
    expected = torch.tensor([[[0.7, 0.3]], [[0.8, 0.2]], [[0.8, 0.2]]])
    torch.testing.assert_close(made.targets, expected)
    assert made.sample_weight.flatten().tolist() == [1.0, 1.0, 0.0]


def test_B4_one_client_is_taught_nothing_and_blocks_of_samples_change_nothing(monkeypatch):
    assert not BetterSources()(example_bank(1, 3, 2), torch.ones(1, 1)).sample_weight.any()
    known = example_bank(6, 7, 10)
    whole = BetterSources()(known, uniform(6))
    monkeypatch.setattr("fedfuse.fusion.better_sources._BLOCK_ELEMENTS", 80)
    parts = BetterSources()(known, uniform(6))
    torch.testing.assert_close(whole.targets, parts.targets)
    assert torch.equal(whole.sample_weight, parts.sample_weight)


# -- B5: homeostatic ---------------------------------------------------------------------------


def test_B5_the_spread_of_two_sources_is_that_of_two_passes():
    passes = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
    spread = 0.1 * sources_spread(passes, uniform(2))
    torch.testing.assert_close(spread.float(), torch.full((2, 1), 0.1), atol=1e-5, rtol=0)
    of_one = homeostatic.spread(passes.unsqueeze(1), 0.1)
    torch.testing.assert_close(spread[:1].float(), of_one)
    many = example_bank(5, 6, 4).logits
    unbiased = many.var(dim=0).mean(dim=-1).expand(5, -1)
    torch.testing.assert_close(sources_spread(many, uniform(5)).float(), unbiased)


def test_B5_shares_of_own_and_fused_are_the_authors():
    own, fused = torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])
    for uncertainty, expected in ((0.25, [0.65, 0.35]), (0.1, [0.72, 0.28])):
        share = teachers_share(torch.tensor([[uncertainty]]), 0.2)
        mixed = share.squeeze() * fused + (1 - share.squeeze()) * own
        torch.testing.assert_close(mixed, torch.tensor(expected), atol=1e-5, rtol=0)


def test_B5_the_rule_mixes_by_the_sources_spread():
    two = of(torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]))
    probs = two.logits.softmax(-1)
    fused = probs.mean(dim=0)
    for threshold, share in ((0.2, 0.45), (0.05, 0.55)):  # U is .1
        made = HomeostaticMix(MEAN, threshold)(two, uniform(2))
        torch.testing.assert_close(made.targets, share * fused + (1 - share) * probs)
        assert made.metrics == pytest.approx({"uncertainty": 0.1, "taken_share": share})


def test_B5_agreeing_sources_halve_and_contradicting_ones_are_heard_alone():
    known = example_bank(3, 5, 4)
    alike = replace(known, logits=known.logits[:1].expand(3, -1, -1))
    own = alike.logits.softmax(-1)
    torch.testing.assert_close(HomeostaticMix(MEAN)(alike, uniform(3)).targets, own)
    made = HomeostaticMix(MEAN, scale=0.0)(known, uniform(3)).targets  # U = 0
    torch.testing.assert_close(made, (known.logits.softmax(-1) + MEAN(known, uniform(3))) / 2)
    made = HomeostaticMix(MEAN, scale=1e6)(known, uniform(3)).targets  # U = 1
    torch.testing.assert_close(made, MEAN(known, uniform(3)))


def test_B5_one_source_is_certain_and_per_batch_there_is_one_uncertainty():
    known = example_bank(4, 6, 5)
    assert not sources_spread(known.logits, torch.eye(4)).any()
    assert HomeostaticMix(MEAN)(known, torch.eye(4)).metrics["uncertainty"] == 0
    one = HomeostaticMix(MEAN, per="batch")(known, uniform(4))
    mean = float((0.1 * known.logits.var(dim=0).mean(dim=-1)).mean())
    assert mean < 1
    assert one.metrics["uncertainty"] == pytest.approx(mean, abs=1e-6)
    share = teachers_share(torch.tensor([[mean]]), 0.2)
    expected = share * MEAN(known, uniform(4)) + (1 - share) * known.logits.softmax(-1)
    torch.testing.assert_close(one.targets, expected)


def test_B5_who_did_not_answer_gets_what_is_fused_and_is_no_source():
    known = example_bank(3, 4, 3)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 1] = False
    logits = known.logits.clone()
    logits[0, 1] = torch.nan
    masked = replace(known, logits=logits, mask=mask)
    made = HomeostaticMix(MEAN)(masked, uniform(3))
    torch.testing.assert_close(made.targets[0, 1], known.logits[1:, 1].softmax(-1).mean(dim=0))
    spread = sources_spread(logits, uniform(3), mask)
    unbiased = known.logits[1:, 1].var(dim=0).mean().double()
    torch.testing.assert_close(spread[:, 1], unbiased.expand(3), atol=1e-6, rtol=0)


def test_B5_what_is_sent_at_the_end_of_the_floats_does_no_harm():
    loud = of(torch.tensor([[[3e38, -3e38]], [[0.0, 0.0]]]))
    for scale in (0.0, 0.1):
        assert HomeostaticMix(MEAN, scale=scale)(loud, uniform(2)).targets.isfinite().all()


# -- B6: contrastive ---------------------------------------------------------------------------


def test_B6_scores_and_weights_are_those_of_the_sheet():
    rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    scores = picked_out(rows, torch.eye(2), tau=1.0, block=4096)
    expected = torch.tensor([[-0.313262, -0.313262], [-0.313262, -1.313262]])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    shares = torch.tensor([[0.5, 0.731059], [0.5, 0.268941]])
    torch.testing.assert_close(scores.softmax(dim=0), shares, atol=1e-5, rtol=0)


def test_B6_the_target_is_weighted_by_pair_and_score():
    known, weights = example_bank(4, 6, 5), torch.rand(4, 4).softmax(dim=1)
    rule = Contrastive(tau=0.2)
    rows = normalize(known.logits, dim=-1)
    mean = normalize(rows.mean(dim=0), dim=-1)
    score = ((rows @ mean.T) / 0.2).log_softmax(dim=-1).diagonal(dim1=1, dim2=2)
    share = weights.unsqueeze(2) * score.exp()
    share = share / share.sum(dim=1, keepdim=True)
    expected = torch.einsum("kjp,jpc->kpc", share, known.logits.softmax(-1))
    torch.testing.assert_close(rule(known, weights), expected)


def test_B6_equal_clients_are_averaged_and_one_with_permuted_rows_counts_less():
    known = example_bank(4, 40, 5)
    alike = replace(known, logits=known.logits[:1].expand(4, -1, -1))
    weights = torch.rand(4, 4).softmax(dim=1)
    torch.testing.assert_close(Contrastive()(alike, weights), MEAN(alike, weights))
    honest = 4 * torch.randn(1, 40, 5, generator=torch.Generator().manual_seed(0))
    noise = 0.1 * torch.randn(4, 40, 5, generator=torch.Generator().manual_seed(1))
    sent = honest + noise
    sent[3] = sent[3].roll(1, dims=0)
    weight = Contrastive().scores(normalize(sent, dim=-1), None).softmax(dim=0).mean(dim=1)
    assert float(weight[3]) < float(weight[:3].min())


def test_B6_one_sample_is_weighted_alike_and_a_zero_row_stays_zero():
    one = example_bank(3, 1, 4)
    torch.testing.assert_close(Contrastive()(one, uniform(3)), MEAN(one, uniform(3)))
    silent = replace(one, logits=torch.zeros_like(one.logits))
    assert not reference(normalize(silent.logits, dim=-1)).any()
    torch.testing.assert_close(Contrastive()(silent, uniform(3)), torch.full((3, 1, 4), 0.25))


def test_B6_blocks_change_nothing_and_unanswered_samples_are_no_others():
    known = example_bank(4, 9, 5)
    whole = Contrastive()(known, uniform(4))
    torch.testing.assert_close(Contrastive(block=5)(known, uniform(4)), whole)
    mask = torch.ones(4, 9, dtype=torch.bool)
    mask[:, 8] = False
    fewer = replace(known, logits=known.logits[:, :8])
    made = Contrastive()(replace(known, mask=mask), uniform(4))
    torch.testing.assert_close(made[:, :8], Contrastive()(fewer, uniform(4)))
    torch.testing.assert_close(made[:, 8], torch.full((4, 5), 0.2))
    nobody = replace(known, mask=torch.zeros(4, 9, dtype=torch.bool))
    torch.testing.assert_close(Contrastive()(nobody, uniform(4)), torch.full((4, 9, 5), 0.2))


# -- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (BetterSources, {"by": "entropy"}),
        (BetterSources, {"margin": -0.1}),
        (BetterSources, {"margin": float("nan")}),
        (BetterSources, {"temperature": True}),
        (HomeostaticMix, {"threshold": 1.5}),
        (HomeostaticMix, {"scale": float("inf")}),
        (HomeostaticMix, {"per": "client"}),
        (HomeostaticMix, {"inner": None}),
        (Contrastive, {"tau": 0}),
        (Contrastive, {"block": 0}),
        (Contrastive, {"block": 2.5}),
        (Contrastive, {"temperature": -1}),
    ],
)
def test_what_is_impossible_is_refused(part, wrong):
    key = next(iter(wrong))
    with pytest.raises(ParameterError, match=f"'{key}' parameter of {part.__name__}"):
        part(**({"inner": MEAN} if part is HomeostaticMix else {}) | wrong)
    assert Pipeline(Uniform(), All(), part(MEAN) if part is HomeostaticMix else part())
