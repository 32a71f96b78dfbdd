"""Confidences from Gaussians and from a regression: by hand, by loop, and free of scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.familiarity import (
    AuxiliaryScore,
    Familiarity,
    GaussianDensity,
    KuLSIFSelector,
    NearestCentre,
    Scored,
)
from fedfuse.familiarity.gaussian import fit, log_density
from fedfuse.familiarity.logistic import EPS, fit_logistic, private_probability


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _task(num_features: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return private features of two classes, and public ones: 50 near, 50 far."""
    generator = _generator(5)
    labels = torch.arange(120) % 2 * 3  # classes 0 and 3
    private = torch.randn(120, num_features, generator=generator) + labels.unsqueeze(1)
    near = torch.randn(50, num_features, generator=generator) + 3 * (
        torch.arange(50) % 2
    ).unsqueeze(1)
    far = torch.randn(50, num_features, generator=generator) - 8
    return private, labels, torch.cat([near, far])


def test_the_density_by_hand() -> None:
    # Two classes of 3 and 1 samples at 0 +- sqrt 2 and 4: S = (2 + 2 + 0 + 0) / 4 = 1
    root = math.sqrt(2)
    x = torch.tensor([[-root], [0.0], [root], [4.0]])
    model = fit(x, torch.tensor([5, 5, 5, 7]), shrinkage=0.0)
    assert model.factor.item() == pytest.approx(1, abs=1e-6)

    def phi(t: float) -> float:
        return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)

    # p(1) = 3/4 phi(1) + 1/4 phi(-3)
    expected = math.log(0.75 * phi(1) + 0.25 * phi(-3))
    got = log_density(model, torch.tensor([[1.0]]))
    assert got.item() == pytest.approx(expected, abs=1e-5)


def test_the_density_agrees_with_torch_distributions() -> None:
    private, labels, public = _task()
    model = fit(private, labels, shrinkage=0.2)
    parts = torch.stack(
        [
            torch.distributions.MultivariateNormal(mean, scale_tril=model.factor).log_prob(
                public.double()
            )
            + share
            for mean, share in zip(model.means, model.log_shares, strict=True)
        ]
    )
    torch.testing.assert_close(log_density(model, public), parts.logsumexp(dim=0))


def test_shrinkage_by_hand() -> None:
    # S = diag(4, 0); shrunk by a half: diag(2 + 1, 0 + 1)
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    factor = fit(x, torch.zeros(2, dtype=torch.int64), shrinkage=0.5).factor
    torch.testing.assert_close(
        (factor @ factor.T).float(), torch.diag(torch.tensor([3.0, 1.0])), rtol=0, atol=1e-5
    )


def test_fewer_samples_than_features_and_constant_ones_are_no_obstacle() -> None:
    x = torch.randn(4, 30, generator=_generator())
    x[:, 0] = 1.0
    for shrinkage in (0.0, 0.1, 1.0):
        model = fit(x, torch.tensor([0, 1, 0, 1]), shrinkage)
        assert log_density(model, x).isfinite().all()
    same = fit(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), 0.1)
    assert log_density(same, torch.zeros(1, 2)).isfinite().all()


def _said(
    part: Familiarity, private: Tensor, labels: Tensor, public: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what a familiarity says, and of which samples."""
    given = part(private, labels, public, _generator())
    if isinstance(given, Scored):
        return given.confidence, given.mask
    return given, torch.ones(len(public), dtype=torch.bool)


PARTS = [
    GaussianDensity(),
    GaussianDensity("rank"),
    AuxiliaryScore(),
    KuLSIFSelector(),
    NearestCentre(),
    NearestCentre(num_clusters=200),
    KuLSIFSelector(width=2.0),
]


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_near_samples_are_more_familiar_and_the_call_repeats(part: Familiarity) -> None:
    private, labels, public = _task()
    confidence, known = _said(part, private, labels, public)
    assert confidence.shape == (100,)
    assert confidence.dtype in (torch.float32, torch.bool)
    numbers = confidence.double()
    assert numbers.isfinite().all()
    assert numbers[:50][known[:50]].mean() > numbers[50:][known[50:]].mean()
    assert torch.equal(confidence, _said(part, private, labels, public)[0])


@pytest.mark.parametrize("part", PARTS[:6], ids=repr)
def test_confidences_do_not_depend_on_the_scale_of_the_features(part: Familiarity) -> None:
    private, labels, public = _task()
    one = _said(part, private, labels, public)[0].float()
    other = _said(part, 64 * private, labels, 64 * public)[0].float()
    torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def test_the_regression_by_hand() -> None:
    # One feature +-1: 2 log(1 + e^-w) + lam w^2 / 2 is least where lam w = 2 / (1 + e^w): w = 2
    x, signs = torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, -1.0])
    w, b = fit_logistic(x, signs, lam=1 / (1 + math.e**2))
    assert w.item() == pytest.approx(2, abs=1e-8)
    assert b.item() == pytest.approx(0, abs=1e-8)


def test_the_intercept_is_free() -> None:
    # Samples that say nothing: P(private) is their share, 3 of 4, whatever the regularisation.
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0])
    w, b = fit_logistic(torch.zeros(4, 2), signs, lam=1e6)
    assert torch.sigmoid(b).item() == pytest.approx(0.75)
    assert float(w.norm()) == 0


@pytest.mark.parametrize("num_features", [3, 300])
@pytest.mark.parametrize("lam", [1e-3, 0.01, 10.0])
def test_the_regression_is_scikit_learns(num_features: int, lam: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    private, _, public = _task(num_features)
    x = torch.cat([private, public]) / 60
    signs = torch.cat([torch.ones(120), -torch.ones(100)])
    theirs = linear_model.LogisticRegression(C=1 / lam, tol=1e-10, max_iter=10_000)
    theirs.fit(x.double().numpy(), signs.numpy())
    w, b = fit_logistic(x, signs, lam)
    torch.testing.assert_close(w, torch.tensor(theirs.coef_[0]), rtol=1e-3, atol=1e-3)
    assert float(b) == pytest.approx(float(theirs.intercept_[0]), rel=1e-3, abs=1e-3)


def test_the_regression_is_at_the_minimum() -> None:
    private, _, public = _task()
    x = torch.cat([private, public]).double()
    signs = torch.cat([torch.ones(120), -torch.ones(100)]).double()
    for lam in (1e-3, 1.0, 1000.0):
        w, b = fit_logistic(x, signs, lam)

        def loss(v: Tensor, lam: float = lam) -> Tensor:
            margins = signs * (x @ v[:-1] + v[-1])
            return torch.log1p((-margins).exp()).sum() + lam * v[:-1].square().sum() / 2

        assert float(torch.func.grad(loss)(torch.cat([w, b.unsqueeze(0)])).norm()) < 1e-7


def test_scores_are_probabilities() -> None:
    private, _, public = _task()
    scores = private_probability(private, public[::2], public[1::2], 0.01)
    assert (scores > EPS / 2).all()
    assert (scores <= 1 + EPS).all()
    # Public samples that are the private ones: nothing to tell them apart by.
    same = private_probability(private, private, private, 0.01)
    torch.testing.assert_close(same, torch.full((120,), 0.5).double())


def test_what_the_regression_has_seen_as_public_is_not_scored() -> None:
    """A fifth, the same for all clients; beside the sum of the losses lam = 0.01 is little."""
    private, labels, public = _task()
    score = AuxiliaryScore()
    given = score(private, labels, public, _generator())
    assert int((~given.mask).sum()) == 20
    assert torch.equal(given.mask, score(private[:9], labels[:9], public, _generator(3)).mask)
    other = AuxiliaryScore(seed=1)(private, labels, public, _generator())
    assert not torch.equal(given.mask, other.mask)
    expected = private_probability(private, public[~given.mask], public[given.mask], 0.01)
    torch.testing.assert_close(given.confidence[given.mask].double(), expected)
    assert float(given.confidence[:50][given.mask[:50]].mean()) > 0.7
    assert float(given.confidence[50:][given.mask[50:]].mean()) < 0.2
    alone = score(private, labels, public[:1], _generator())
    assert not alone.mask.any()  # nothing is left to be scored


@pytest.mark.parametrize(
    "part", [GaussianDensity(), AuxiliaryScore(), KuLSIFSelector(), NearestCentre()], ids=repr
)
def test_features_that_are_not_finite_are_refused(part: Familiarity) -> None:
    private, labels, public = _task()
    private[:] = torch.inf
    with pytest.raises(KnowledgeError, match="not finite"):
        part(private, labels, public, _generator())


def test_near_a_centre_by_hand() -> None:
    # Eight samples at 0 and 10, +-1; six are learned. Whatever two are held out, both clumps have
    # centres within 1 of 0 and 10, and one held out is at most 2 away from its own.
    private = torch.tensor([[-1.0], [1.0], [-1.0], [1.0], [9.0], [11.0], [9.0], [11.0]])
    public = torch.tensor([[0.0], [10.0], [5.0], [-30.0]])
    part = NearestCentre(num_clusters=2, quantile=0.0)
    mask = part(private, torch.zeros(8, dtype=torch.int64), public, _generator())
    assert mask.tolist() == [True, True, False, False]
    one = NearestCentre(num_clusters=1, quantile=0.0)  # its centre is between the clumps
    assert one(private, torch.zeros(8, dtype=torch.int64), public, _generator())[2]


def test_centres_do_not_depend_on_how_many_samples_are_alike() -> None:
    alike = torch.zeros(8, 2)
    public = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    said = NearestCentre()(alike, torch.zeros(8, dtype=torch.int64), public, _generator())
    assert said.tolist() == [False, False]  # nothing is nearer than all are


@pytest.mark.parametrize(
    ("name", "bad"),
    [("num_clusters", 0), ("num_clusters", 256), ("quantile", 2), ("held_out", 1), ("of", "x")],
)
def test_bad_centres(name: str, bad: object) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter of NearestCentre"):
        NearestCentre(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "bad"), [("standardise", "z"), ("shrinkage", -0.1), ("held_out", 1.0)]
)
def test_bad_gaussians(name: str, bad: object) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter of GaussianDensity"):
        GaussianDensity(**{name: bad})  # type: ignore[arg-type]


def test_a_bad_regularisation() -> None:
    with pytest.raises(ParameterError, match="'lam' parameter of AuxiliaryScore"):
        AuxiliaryScore(0)
