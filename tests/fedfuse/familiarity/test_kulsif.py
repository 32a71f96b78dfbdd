"""The density ratio: by hand, against its own optimality, and as a selector."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.data.sources.mnist5k import mnist5k
from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.familiarity import KuLSIFSelector, kulsif_ratio
from fedfuse.familiarity.client_selector import NARROW
from fedfuse.familiarity.hold_out import hold_out, quantile_mask, ranks, z_scores
from fedfuse.familiarity.kulsif import median_width, rbf, uniform_samples


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return shift + torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def test_the_ratio_by_hand() -> None:
    # One known sample at 0, one auxiliary at 2, width 2, lam 1/2: k(0, 2) = e^-0.5 = a.
    # (1 + 1/2) alpha = -a / (1/2)  =>  alpha = -4 a / 3; r(x) = 2 k(x, 0) - 4 a / 3 k(x, 2)
    # r(0) = 2 - 4 e^-1 / 3 = 1.509494; r(2) = 2 a - 4 a / 3 = 2 a / 3 = 0.404354
    # r(4) = 2 e^-2 - 4 e^-1 / 3 = -0.2198, which no ratio can be: 0
    ratio = kulsif_ratio(
        torch.tensor([[0.0]]),
        torch.tensor([[2.0]]),
        torch.tensor([[0.0], [2.0], [4.0]]),
        width=2.0,
        lam=0.5,
    )
    expected = torch.tensor([2 - 4 / 3 * math.exp(-1), 2 / 3 * math.exp(-0.5), 0.0])
    torch.testing.assert_close(ratio, expected.double())


def test_it_agrees_with_a_slow_loop() -> None:
    known, auxiliary, query = _normal(4, 3), _normal(5, 3, seed=1), _normal(6, 3, seed=2)
    width, lam = 1.7, 0.3

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return math.exp(-float((x - y).square().sum()) / (2 * width**2))

    m, n = 5, 4
    system = torch.zeros(m, m, dtype=torch.float64)
    right = torch.zeros(m, dtype=torch.float64)
    for i, j in product(range(m), range(m)):
        system[i, j] = k(auxiliary[i], auxiliary[j]) / m + (lam if i == j else 0)
    for i, j in product(range(m), range(n)):
        right[i] -= k(auxiliary[i], known[j]) / (n * m * lam)
    alpha = torch.linalg.inv(system) @ right
    expected = [
        max(
            0.0,
            sum(k(x, y) for y in known) / (n * lam)
            + sum(float(a) * k(x, y) for a, y in zip(alpha, auxiliary, strict=True)),
        )
        for x in query
    ]
    ratio = kulsif_ratio(known, auxiliary, query, width, lam)
    torch.testing.assert_close(ratio, torch.tensor(expected, dtype=torch.float64))


def test_no_other_function_of_the_same_kernels_fits_better() -> None:
    """The solution is the minimum of the objective that defines it."""
    known, auxiliary = _normal(6, 2), _normal(7, 2, seed=1, shift=0.5)
    width, lam, n, m = 1.0, 0.2, 6, 7
    points = torch.cat([auxiliary, known])
    gram = rbf(points, points, width)

    def objective(c: torch.Tensor) -> torch.Tensor:
        r = gram @ c
        return r[:m].square().mean() / 2 - r[m:].mean() + lam / 2 * c @ gram @ c

    system = rbf(auxiliary, auxiliary, width) / m + lam * torch.eye(m, dtype=torch.float64)
    right = -rbf(auxiliary, known, width).sum(dim=1) / (n * m * lam)
    ours = torch.cat(
        [torch.linalg.solve(system, right), torch.full((n,), 1 / (n * lam), dtype=torch.float64)]
    )
    gradient = torch.func.grad(objective)(ours)
    assert float(gradient.norm()) < 1e-9
    unclipped = gram @ ours
    ratio = kulsif_ratio(known, auxiliary, points, width, lam)
    torch.testing.assert_close(ratio, unclipped.clamp_min(0))


def test_it_estimates_a_ratio() -> None:
    # N(1, 1) over N(0, 2**2) in one dimension, known in closed form
    known, auxiliary = _normal(2000, 1, shift=1.0), 2 * _normal(2000, 1, seed=1)
    query = torch.linspace(-2, 3, 11, dtype=torch.float64).unsqueeze(1)
    truth = 2 * (-((query - 1) ** 2) / 2 + query**2 / 8).exp().squeeze(1)
    ratio = kulsif_ratio(known, auxiliary, query, width=1.0, lam=2000**-0.5)
    assert float((ratio - truth).abs().max()) < 0.35


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 5), st.floats(0.01, 1))
def test_the_order_of_samples_does_not_matter(seed: int, width: float, lam: float) -> None:
    known, auxiliary, query = (_normal(5, 2, seed=seed + i) for i in range(3))
    ratio = kulsif_ratio(known, auxiliary, query, width, lam)
    assert (ratio >= 0).all()
    moved = kulsif_ratio(known.flip(0), auxiliary.roll(2, 0), query.flip(0), width, lam)
    torch.testing.assert_close(moved.flip(0), ratio)
    alone = torch.cat([kulsif_ratio(known, auxiliary, q[None], width, lam) for q in query])
    torch.testing.assert_close(alone, ratio)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known, auxiliary, query = (_normal(9, 2, seed=i) for i in range(3))
    whole = kulsif_ratio(known, auxiliary, query, 1.0, 0.1)
    monkeypatch.setattr("fedfuse.familiarity.kulsif._BLOCK_ELEMENTS", 20)
    torch.testing.assert_close(kulsif_ratio(known, auxiliary, query, 1.0, 0.1), whole)


def test_bad_samples_are_named() -> None:
    good = _normal(3, 2)
    bad = good.clone()
    bad[0, 0] = torch.nan
    with pytest.raises(KnowledgeError, match=r"query samples.*1 values not finite"):
        kulsif_ratio(good, good, bad, 1.0, 0.1)
    with pytest.raises(KnowledgeError, match=r"known samples.*0 samples"):
        kulsif_ratio(good[:0], good, good, 1.0, 0.1)


def test_widths_and_boxes() -> None:
    # distances 1, 2, 3 (twice the same point: distance 0 does not count)
    assert median_width(torch.tensor([[0.0], [1.0], [3.0]])) == 2
    assert median_width(torch.zeros(3, 2)) == 1
    points = uniform_samples(torch.tensor([[0.0, -1.0], [2.0, -1.0]]), 100, _generator())
    assert points.shape == (100, 2)
    assert (points[:, 1] == -1).all()
    assert 0 <= float(points[:, 0].min()) < 0.2
    assert 1.8 < float(points[:, 0].max()) <= 2


def test_the_selector_keeps_ones_own_kind() -> None:
    private = _normal(200, 2)
    public = torch.cat([_normal(100, 2, seed=1), _normal(100, 2, seed=2, shift=6.0)])
    labels = torch.zeros(200, dtype=torch.int64)
    mask = KuLSIFSelector()(private, labels, public, _generator())
    assert mask.dtype == torch.bool
    assert 0.6 < float(mask[:100].double().mean()) < 0.9  # about 1 - quantile
    assert float(mask[100:].double().mean()) < 0.05
    again = KuLSIFSelector()(private, labels, public, _generator())
    assert torch.equal(mask, again)
    strict = KuLSIFSelector(quantile=0.9)(private, labels, public, _generator())
    assert (mask | ~strict).all()
    assert strict.sum() < mask.sum()
    nobody = KuLSIFSelector(quantile=0.5, width=0.1)(private, labels, public + 100, _generator())
    assert not nobody.any()


def test_the_quantile_by_hand() -> None:
    # 0.25-quantile of 1, 2, 3, 4: 1.75
    held = torch.tensor([4.0, 2.0, 1.0, 3.0])
    assert quantile_mask(torch.tensor([1.75, 1.76]), held, 0.25).tolist() == [False, True]
    assert quantile_mask(held, held, 0.0).tolist() == [True, True, False, True]
    assert not quantile_mask(held, held, 1.0).any()


def test_standardising_by_hand() -> None:
    held = torch.tensor([1.0, 3.0])
    assert z_scores(torch.tensor([5.0, 2.0]), held).tolist() == [3.0, 0.0]
    assert z_scores(torch.tensor([5.0]), torch.tensor([1.0])).tolist() == [4.0]
    assert ranks(torch.tensor([0.0, 1.0, 3.5]), held).tolist() == [0.25, 0.5, 0.75]


@given(st.integers(2, 50), st.floats(0.01, 0.9), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_what_is_held_out_is_not_learned_from(n: int, share: float, seed: int) -> None:
    learned, held = hold_out(n, share, _generator(seed))
    assert sorted([*learned.tolist(), *held.tolist()]) == list(range(n))
    assert len(learned) > 0
    assert len(held) == min(max(round(share * n), 1), n - 1)


def test_one_sample_is_too_few() -> None:
    with pytest.raises(KnowledgeError, match="1 private samples"):
        hold_out(1, 0.5, _generator())


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("quantile", 1.1),
        ("quantile", math.nan),
        ("num_auxiliary", 0),
        ("width", 0),
        ("width", "median"),
        ("held_out", 0),
        ("held_out", 1),
        ("max_known", 2.5),
    ],
)
def test_bad_hyperparameters(name: str, bad: object) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter of KuLSIFSelector"):
        KuLSIFSelector(**{name: bad})  # type: ignore[arg-type]


def test_the_kernel_suits_digits_as_the_authors_does() -> None:
    """They take 4 to 5 for normalised MNIST and call 20 too large; the median distance is 24 to 33.

    Clients with two classes each answer for three quarters of their own kind, and for few others.
    """
    raw = mnist5k().train
    pixels = torch.tensor(raw.inputs[::4]).flatten(1).double() / 255
    digits, labels = (pixels - 0.1307) / 0.3081, torch.tensor(raw.labels[::4])
    odd = torch.arange(len(labels)) % 2 == 1
    answers = torch.zeros(2, 2, dtype=torch.float64)  # default, median; own kind, others
    for client in range(5):
        own = labels // 2 == client
        private, public = digits[own & odd].float(), digits[~odd].float()
        median = median_width(private)
        assert 20 < median < 40
        assert 3.5 <= NARROW * median <= 6
        for row, width in enumerate((None, median)):
            selector = KuLSIFSelector(width=width)
            mask = selector(private, labels[own & odd], public, _generator()).double()
            mine = own[~odd]
            answers[row] += torch.stack([mask[mine].mean(), mask[~mine].mean()]) / 5
    assert float(answers[0, 0]) > 0.6
    assert float(answers[0, 1]) < 0.25
    assert float(answers[1, 1]) > 0.45  # what the median, taken before, let through
