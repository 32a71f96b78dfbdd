import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.errors import FedfuseError, ParameterError
from fedfuse.privacy import Gaussian, LabelOnly, Laplace, Swing, Temperature, TopKOnly, accountant
from fedfuse.privacy.blunt import rarity_scores
from fedfuse.privacy.bound import clip_l1, clip_l2


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(m=40, classes=10, scale=5.0):
    return scale * torch.randn(m, classes, generator=stream(1))


MECHANISMS = [
    Gaussian(epsilon=None, noise_multiplier=0.1),
    Laplace(epsilon=None, noise_multiplier=0.1),
    LabelOnly(),
    TopKOnly(k=3),
    Temperature(),
    Swing(),
]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: type(m).__name__)
def test_every_mechanism_keeps_the_shape_and_draws_from_its_own_generator_only(mechanism):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    given_ = logits()
    kept = given_.clone()
    one, two = mechanism(given_, stream(5)), mechanism(given_, stream(5))
    assert torch.equal(one, two)
    assert torch.equal(given_, kept)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.shape == given_.shape
    assert one.dtype == torch.float32
    assert torch.isfinite(one).all()


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("row", [[1e30, 0.0, -1e30], [0.0, 0.0, 0.0], [300.0, -300.0, 0.0]])
def test_extreme_predictions_stay_finite(mechanism, row):
    assert torch.isfinite(mechanism(torch.tensor([row]), stream())).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=6),
    st.floats(0.01, 100),
)
def test_clipping_bounds_every_vector_and_leaves_short_ones_alone(row, clip):
    vector = torch.tensor([row])
    for cut, order in ((clip_l2, 2), (clip_l1, 1)):
        norm = float(cut(vector, clip).double().norm(p=order))
        assert norm <= clip * (1 + 1e-6)
        if float(vector.double().norm(p=order)) <= clip:
            assert torch.equal(cut(vector, clip), vector)


def test_noise_has_the_promised_scale():
    # The noise alone: every row is the zero vector.
    zeros = torch.zeros(20_000, 4)
    normal = Gaussian(clip=2.0, epsilon=None, noise_multiplier=0.5)(zeros, stream())
    assert float(normal.std()) == pytest.approx(2.0, rel=0.02)  # 0.5 * 2 * clip
    double = Laplace(clip=2.0, epsilon=None, noise_multiplier=0.5)(zeros, stream())
    assert float(double.abs().mean()) == pytest.approx(2.0, rel=0.02)  # the scale b


def test_what_can_be_learnt_is_bounded_by_the_clip_whatever_the_logits_were():
    mechanism = Gaussian(clip=1.0, epsilon=None, noise_multiplier=0.1)
    one, other = logits(scale=1e6), -logits(scale=1e6)
    apart = (mechanism(one, stream(2)) - mechanism(other, stream(2))).norm(dim=1)
    assert float(apart.max()) <= 2.0 + 1e-4


def test_label_only_sends_nothing_but_the_label():
    sent = LabelOnly()(logits(), stream())
    assert torch.equal(sent.argmax(1), logits().argmax(1))
    assert len(sent.unique(dim=0)) <= 10


def test_top_k_keeps_the_largest_and_levels_the_rest():
    given_ = logits(m=7, classes=5)
    probs, sent = given_.softmax(1), TopKOnly(k=2)(given_, stream()).softmax(1)
    kept, index = probs.topk(2, dim=1)
    torch.testing.assert_close(sent.gather(1, index), kept)
    rest = sent.scatter(1, index, 0.0)
    torch.testing.assert_close(rest.amax(1), (1 - kept.sum(1)) / 3, atol=1e-6, rtol=1e-3)
    assert torch.equal(TopKOnly(k=5)(given_, stream()), given_)


def test_swing_flattens_what_is_surest_most():
    given_ = torch.tensor([[8.0, 0.0], [0.2, 0.0]])
    sent = Swing(kappa=2.0, noise=0.0)(given_, stream()).softmax(1)
    ratio = given_.softmax(1)[:, 0].logit() / sent[:, 0].logit()
    assert float(ratio[0]) == pytest.approx(1 + 2 * float(given_.softmax(1)[0, 0]), rel=1e-3)
    assert float(ratio[1]) < float(ratio[0])


def test_K1_by_hand():
    counts = torch.tensor([60, 30, 10])
    expected = torch.tensor([0.166667, 0.333333, 1.0]).double()
    torch.testing.assert_close(rarity_scores(counts), expected, atol=1e-5, rtol=0)
    given_ = torch.tensor([[0.1, 0.1, 0.8]]).log()  # T = 1 + 2 * (.1/6 + .1/3 + .8) = 2.7
    sent = Swing(noise=0.0, score="rarity")(given_, stream(), counts)
    torch.testing.assert_close(sent, (given_ / 2.7).log_softmax(1), atol=1e-5, rtol=0)
    both = Swing(noise=0.0, score="both")(given_, stream(), counts)  # 1 + 2 * (.85 + .8) / 2
    torch.testing.assert_close(both, (given_ / 2.65).log_softmax(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("counts", [[7, 7, 7, 7, 7], [0, 3, 3, 0, 3], [0, 0, 0, 0, 0]])
def test_K1_equal_counts_flatten_all_alike_and_kappa_0_nothing(counts):
    given_, counts = 3 * torch.randn(20, 5, generator=stream()), torch.tensor(counts)
    for kappa, temperature in ((2.0, 4.5), (0.0, 1.5)):
        sent = Swing(1.5, kappa, noise=0.0, score="rarity")(given_, stream(), counts)
        flat = (given_ / temperature).softmax(1).clamp_min(1e-4)
        expected = (flat / flat.sum(1, keepdim=True)).log()
        torch.testing.assert_close(sent, expected, atol=1e-5, rtol=0)


def test_K1_the_largest_probability_does_not_read_the_counts():
    given_ = torch.randn(20, 5, generator=stream())
    counts = torch.tensor([1, 2, 3, 4, 0])
    assert torch.equal(Swing()(given_, stream()), Swing()(given_, stream(), counts))
    assert not Swing().needs_class_counts
    with pytest.raises(FedfuseError, match="score=both needs the client's samples"):
        Swing(score="both")(given_, stream())
    with pytest.raises(ParameterError, match="Did you mean 'rarity'"):
        Swing(score="rarit")


def gaussian_delta(multiplier, epsilon):
    """Balle and Wang 2018, theorem 8, written down anew."""
    normal = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))  # noqa: E731
    half, shift = 1 / (2 * multiplier), epsilon * multiplier
    return normal(half - shift) - math.exp(epsilon) * normal(-half - shift)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_the_gaussian_budget_is_spent_to_the_last(epsilon):
    once = accountant.gaussian_multiplier(epsilon, 1, 1e-5)
    assert gaussian_delta(once, epsilon) == pytest.approx(1e-5, rel=1e-6)
    many = accountant.gaussian_multiplier(epsilon, 400, 1e-5)
    assert many == pytest.approx(20 * once)
    assert accountant.gaussian_epsilon(many, 400, 1e-5) == pytest.approx(epsilon)


def test_the_laplace_budget_composes_purely_without_delta_and_better_with_one():
    assert accountant.laplace_epsilon(50.0, 4500, 0) == 90.0
    assert accountant.laplace_multiplier(90.0, 4500, 0) == 50.0
    # dp-accounting's numerical composition (PLD), tight to its grid, gave 6.1476 here.
    assert 6.1475 < accountant.laplace_epsilon(50.0, 4500, 1e-5) < 6.7
    assert accountant.laplace_epsilon(50.0, 1, 1e-5) <= 1 / 50
    for epsilon, queries in ((8.0, 4500), (8.0, 1), (900.0, 4500)):
        enough = accountant.laplace_multiplier(epsilon, queries, 1e-5)
        assert accountant.laplace_epsilon(enough, queries, 1e-5) <= epsilon
        assert accountant.laplace_epsilon(enough * 0.999, queries, 1e-5) > epsilon


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_a_run_is_calibrated_once_and_spends_what_was_asked(kind):
    mechanism = kind(clip=3.0, epsilon=8.0)
    ready = mechanism.for_queries(900)
    assert ready.epsilon is None
    assert ready.for_queries(1) == ready
    spent = mechanism.spent([100] * 9)
    assert spent.epsilon == pytest.approx(8.0, rel=1e-6)
    assert spent.num_queries == 900
    assert 0 < spent.epsilon_round < 8.0
    fixed = kind(clip=3.0, epsilon=None, noise_multiplier=ready.noise_multiplier)
    assert fixed.spent([100] * 9) == spent
    unit = 6.0 * ready.noise_multiplier * (1 if kind is Gaussian else math.sqrt(2))
    assert spent.noise == pytest.approx(unit)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Gaussian, {"clip": 0}),
        (Gaussian, {"epsilon": 0}),
        (Gaussian, {"epsilon": math.nan}),
        (Gaussian, {"delta": 0}),
        (Gaussian, {"delta": 1}),
        (Gaussian, {"noise_multiplier": 1.0}),
        (Gaussian, {"epsilon": None}),
        (Gaussian, {"epsilon": None, "noise_multiplier": 0}),
        (Laplace, {"delta": -1e-9}),
        (LabelOnly, {"confidence": 1}),
        (TopKOnly, {"k": 0}),
        (Temperature, {"temperature": 0}),
        (Swing, {"noise": -1}),
    ],
)
def test_impossible_settings_are_refused(kind, values):
    with pytest.raises(ParameterError):
        kind(**values)


def test_a_mechanism_without_its_noise_does_not_run():
    with pytest.raises(ParameterError, match="noise_multiplier"):
        Gaussian()(logits(), stream())
