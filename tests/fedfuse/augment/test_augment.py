"""Augmentations by hand, at their edges, and what breaks the contract."""

from __future__ import annotations

import pytest
import torch

from fedfuse.augment import Augmented, MixDistribution, PartialMixup, augmented
from fedfuse.augment.draws import beta, some
from fedfuse.augment.mix_distribution import restyled
from fedfuse.augment.partial_mixup import mixed
from fedfuse.errors import ParameterError
from fedfuse.testing import CheckFailed, check_augment
from fedfuse.user_code import PartError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(num: int = 20) -> torch.Tensor:
    return torch.randn(num, 3, 5, 5, generator=seeded(7))


@pytest.mark.parametrize(
    "part",
    [
        PartialMixup(),
        PartialMixup(alpha=0.01, keep=0),
        PartialMixup(keep=1),
        MixDistribution(),
        MixDistribution(alpha=3, share=1, consistency=False),
    ],
    ids=str,
)
def test_shipped_parts_keep_the_contract(part):
    check_augment(part)


def test_F1_by_hand():
    rows = torch.tensor([[8.0], [4.0]])
    assert mixed(rows, torch.tensor([0.75, 1.0]), torch.tensor([1, 0])).tolist() == [[7.0], [4.0]]


@pytest.mark.parametrize(("num", "keep", "same"), [(4, 0.5, 2), (20, 0.9, 18), (5, 0.5, 3)])
def test_F1_exactly_a_share_is_kept_to_the_bit(num, keep, same):
    inputs = images(num)
    for seed in range(20):
        made = PartialMixup(keep=keep)(inputs, seeded(seed))
        assert not made.labels_kept
        kept = (made.inputs == inputs).flatten(1).all(dim=1)
        partner = torch.randperm(num, generator=_after_some(num, seed))
        alone = partner == torch.arange(num)  # whoever is its own partner stays as well
        assert same <= int(kept.sum()) <= same + int(alone.sum())


def _after_some(num: int, seed: int) -> torch.Generator:
    generator = seeded(seed)
    some(num, 0, generator)
    return generator


def test_F1_mixed_samples_lie_between_two_others_and_all_kept_is_nothing():
    inputs = torch.eye(12)
    made = PartialMixup(keep=0)(inputs, seeded()).inputs
    torch.testing.assert_close(made.sum(dim=1), torch.ones(12))
    assert ((made > 0).sum(dim=1) <= 2).all()
    assert made.min() >= 0
    everything = PartialMixup(keep=1)
    assert torch.equal(everything(images(), seeded()).inputs, images())
    assert everything.labels_kept
    assert everything(images(), seeded()).labels_kept


def test_F3_by_hand():
    rows = torch.tensor([[1.0, 3.0], [10.0, 14.0]])
    made = restyled(rows, torch.tensor([0.5, 1.0]), torch.tensor([1, 0]))
    torch.testing.assert_close(made, torch.tensor([[5.5, 8.5], [10.0, 14.0]]), atol=1e-5, rtol=0)


def test_F3_all_its_own_or_its_own_partner_is_the_sample_itself():
    inputs = images()
    order = torch.randperm(len(inputs), generator=seeded())
    assert torch.equal(restyled(inputs, torch.ones(20), order), inputs)
    assert torch.equal(restyled(inputs, torch.full((20,), 0.3), torch.arange(20)), inputs)
    assert torch.equal(MixDistribution(share=0)(inputs, seeded()).inputs, inputs)


def test_F3_by_channel_and_of_a_constant_sample_only_the_level_changes():
    inputs = images(2)
    inputs[0, 1] = 4.0
    made = restyled(inputs, torch.tensor([0.0, 1.0]), torch.tensor([1, 0]))
    theirs = inputs[1].mean(dim=(1, 2))
    torch.testing.assert_close(made[0].mean(dim=(1, 2)), theirs, atol=1e-5, rtol=1e-5)
    spread = made[0].std(dim=(1, 2), correction=0)
    expected = inputs[1].std(dim=(1, 2), correction=0)
    expected[1] = 0
    torch.testing.assert_close(spread, expected, atol=1e-5, rtol=1e-5)
    assert made.isfinite().all()


def test_F3_a_share_is_changed_and_labels_are_kept():
    inputs = images(200)
    made = MixDistribution(alpha=1, share=0.25)(inputs, seeded())
    changed = (made.inputs != inputs).flatten(1).any(dim=1)
    assert 48 <= int(changed.sum()) <= 50
    assert made.labels_kept
    assert MixDistribution().lesson_only
    assert not MixDistribution(consistency=False).lesson_only


@pytest.mark.parametrize("a", [0.001, 0.1, 1.0, 5.0])
def test_beta_has_the_moments_of_beta(a):
    drawn = beta(a, 50_000, seeded())
    assert drawn.isfinite().all()
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * a + 1)), abs=0.01)


def test_others_for_other_seeds():
    for part in (PartialMixup(), MixDistribution()):
        one, two = (part(images(), seeded(seed)).inputs for seed in (1, 2))
        assert not torch.equal(one, two)


@pytest.mark.parametrize("part", [PartialMixup, MixDistribution])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "much"])
def test_impossible_concentrations_are_refused(part, value):
    with pytest.raises(ParameterError, match=f"alpha.*{part.__name__}"):
        part(alpha=value)


@pytest.mark.parametrize(
    ("part", "given"),
    [
        (PartialMixup, {"keep": 1.1}),
        (PartialMixup, {"keep": float("nan")}),
        (PartialMixup, {"keep": True}),
        (MixDistribution, {"share": -0.1}),
        (MixDistribution, {"share": "half"}),
        (MixDistribution, {"consistency": 1}),
    ],
)
def test_impossible_parameters_are_refused(part, given):
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter of {part.__name__}"):
        part(**given)


def forgets(inputs, generator):
    return inputs


def cuts(inputs, generator):
    return Augmented(inputs[1:])


def divides(inputs, generator):
    return Augmented(inputs / 0)


def unsaid(inputs, generator):
    return Augmented(inputs, labels_kept=False)


def in_place(inputs, generator):
    return Augmented(inputs.add_(1))


def by_itself(inputs, generator):
    return Augmented(inputs + torch.randn(inputs.shape, generator=torch.Generator()) * ticks())


def ticks(made=[0]):  # noqa: B006
    made[0] += 1
    return made[0]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (forgets, "forgets did not return augmented samples.*Tensor"),
        (cuts, "samples of the public set's kind.*allowed"),
        (divides, "NaN or infinite"),
        (unsaid, "did not keep the labels and does not say so"),
        (in_place, "changes its inputs"),
        (by_itself, "another result when it is called again"),
    ],
)
def test_a_broken_promise_is_named(part, words):
    with pytest.raises(CheckFailed, match=words):
        check_augment(part)


def test_a_run_names_it_too():
    with pytest.raises(PartError, match="The augmentation cuts did not return samples"):
        augmented(cuts, images(), seeded())
