"""The public-set methods' parts keep their promises and are built by the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from fedfuse.errors import ParameterError
from fedfuse.fusion import DataSize, KnFu, Pipeline, TopK, Uniform
from fedfuse.fusion.clusters import ClientClusters, SampleClusters
from fedfuse.fusion.controls import Random, Shuffled
from fedfuse.fusion.filters import AmbiguityFilter
from fedfuse.fusion.ktpfl import KTpFL
from fedfuse.fusion.per_sample import ConfidenceWeighted, UploadedConfidence
from fedfuse.fusion.reference import KTA, ReferenceAccuracy
from fedfuse.fusion.robust import (
    CoordinateMedian,
    GeometricMedian,
    Krum,
    SpectralFilter,
    TrimmedMean,
)
from fedfuse.testing.fusion import check_rule, check_scorer, example_bank
from fedfuse.types import KnowledgeBank, Space

FLAGS = (True, False)
MEASURES = ("entropy", "margin", "max_prob", "variance")
SPACES = ("probabilities", "logits")

RULES = [
    *[
        ConfidenceWeighted(m, 2.0, 3.0, flag, average)
        for m, flag, average in product(MEASURES, FLAGS, SPACES)
    ],
    ConfidenceWeighted(sharpness=0),
    ConfidenceWeighted(sharpness=1e6),
    CoordinateMedian(),
    CoordinateMedian(0.1),
    *[TrimmedMean(trim) for trim in (0, 0.2, 0.499)],
    GeometricMedian(),
    GeometricMedian(0.1, iterations=1),
    *[SpectralFilter(corrupted) for corrupted in (0, 0.2, 0.45)],
    *[Krum(corrupted, keep) for corrupted, keep in product((0, 0.3), (1, 3, 50))],
    *[SampleClusters(g) for g in (1, 2, 50)],
]
SCORERS = [
    *[ClientClusters(g, on) for g, on in product((1, 2, 50), SPACES)],
    ReferenceAccuracy(),
    ReferenceAccuracy(5, "exponential"),
    KTA(),
    KTA(0, 0, 3.0),
    Shuffled(KnFu()),
    Shuffled(KTA(), seed=3),
    Random(),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: repr(rule)[:90])
def test_rules_keep_their_promises(rule: Callable[..., Tensor]) -> None:
    check_rule(rule)


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: repr(scorer)[:90])
def test_scorers_keep_their_promises(scorer: Callable[..., Tensor]) -> None:
    check_scorer(scorer)


@pytest.mark.parametrize(("form", "average"), list(product(("softmax", "ratio"), SPACES)))
def test_uploaded_confidence_keeps_its_promises(form: str, average: str) -> None:
    rule = UploadedConfidence(form, 2.0, 1.0, average)

    def with_confidence(bank: KnowledgeBank, weights: Tensor) -> Tensor:
        sent = bank.logits.amax(dim=-1).abs()
        return rule(replace(bank, confidence=sent), weights)

    with_confidence.space = Space(average)  # type: ignore[attr-defined]
    check_rule(with_confidence)


@pytest.mark.parametrize("variant", ["faithful", "published"])
def test_a_fresh_ktpfl_keeps_its_promises(variant: str) -> None:
    check_scorer(lambda bank, labels: KTpFL(variant, steps=3)(bank, labels))


PERSONAL = [rule for rule in RULES if not isinstance(rule, ConfidenceWeighted)]


@pytest.mark.parametrize("rule", PERSONAL, ids=lambda rule: repr(rule)[:90])
def test_equal_predictions_are_what_comes_out(rule: Callable[..., Tensor]) -> None:
    bank = example_bank(5, 4, 3)
    same = replace(bank, logits=bank.logits[:1].expand(5, 4, 3).contiguous())
    weights = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    weights /= weights.sum(dim=1, keepdim=True)
    temperature = rule.temperature  # type: ignore[attr-defined]
    expected = (same.logits / temperature).softmax(dim=-1)
    torch.testing.assert_close(rule(same, weights), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: repr(rule)[:90])
def test_personal_rows_are_fused_as_if_alone(rule: Callable[..., Tensor]) -> None:
    # Whatever is shared, packed or split into blocks: receiver i's target depends on row i only.
    bank = example_bank(9, 4, 3)
    scores = KnFu()(bank, None)
    for near in (torch.ones(9, 9, dtype=torch.bool), TopK(3)(scores)):
        weights = scores.masked_fill(~near, -torch.inf).softmax(dim=1)
        together = rule(bank, weights)
        for i in (0, 8):
            alone = rule(bank, weights[i : i + 1].expand(9, 9).contiguous())
            torch.testing.assert_close(together[i], alone[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: repr(rule)[:90])
def test_unanswered_samples_are_left_out_and_hidden_nans_do_not_leak(
    rule: Callable[..., Tensor],
) -> None:
    bank = example_bank(4, 3, 5)
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[:, 1] = False
    mask[2, 0] = False
    logits = torch.where(mask.unsqueeze(-1), bank.logits, torch.nan)
    fusion = Pipeline(Uniform(), TopK(9), rule)(replace(bank, logits=logits, mask=mask))
    assert fusion.teachers.targets.isfinite().all()
    assert fusion.teachers.sample_weight is not None
    assert fusion.teachers.sample_weight[:, 1].eq(0).all()
    assert fusion.teachers.sample_weight[:, [0, 2]].eq(1).all()


BAD: list[tuple[Callable[..., object], dict[str, object]]] = [
    (ConfidenceWeighted, {"measure": "entropie"}),
    (ConfidenceWeighted, {"sharpness": -1}),
    (ConfidenceWeighted, {"sharpness": float("nan")}),
    (ConfidenceWeighted, {"standardise": 1}),
    (ConfidenceWeighted, {"average": "labels"}),
    (UploadedConfidence, {"form": "max"}),
    (UploadedConfidence, {"temperature": 0}),
    (CoordinateMedian, {"temperature": True}),
    (TrimmedMean, {"trim": 0.5}),
    (TrimmedMean, {"trim": -0.1}),
    (GeometricMedian, {"iterations": 0}),
    (GeometricMedian, {"tolerance": float("inf")}),
    (SpectralFilter, {"corrupted": 0.5}),
    (SpectralFilter, {"iterations": 1.5}),
    (Krum, {"corrupted": 0.5}),
    (Krum, {"keep": 0}),
    (SampleClusters, {"num_clusters": 0}),
    (ClientClusters, {"of": "features"}),
    (ClientClusters, {"num_clusters": True}),
    (KTpFL, {"variant": "paper"}),
    (KTpFL, {"rho": -1}),
    (KTpFL, {"steps": 0}),
    (KTpFL, {"learning_rate": 0}),
    (ReferenceAccuracy, {"form": "log"}),
    (ReferenceAccuracy, {"beta": None}),
    (KTA, {"gamma": -1}),
    (Shuffled, {"scorer": 3}),
    (Random, {"seed": -1}),
    (AmbiguityFilter, {"theta": 2.0}),
    (AmbiguityFilter, {"theta": 0}),
]


@pytest.mark.parametrize(("part", "options"), BAD)
def test_bad_options_are_named(part: Callable[..., object], options: dict[str, object]) -> None:
    others = {"scorer": DataSize()} if part is Shuffled and "scorer" not in options else {}
    with pytest.raises(ParameterError, match=f"'{next(iter(options))}' parameter"):
        part(**options, **others)


CONF = Path(__file__).parents[3] / "experiments" / "conf"
EXPECTED = {
    "rule/confidence": ConfidenceWeighted(temperature=2.0),
    "rule/uploaded_confidence": UploadedConfidence(temperature=2.0),
    "rule/coordinate_median": CoordinateMedian(2.0),
    "rule/trimmed_mean": TrimmedMean(temperature=2.0),
    "rule/geometric_median": GeometricMedian(2.0),
    "rule/spectral_filter": SpectralFilter(temperature=2.0),
    "rule/krum": Krum(temperature=2.0),
    "rule/sample_clusters": SampleClusters(temperature=2.0),
    "scorer/client_clusters": ClientClusters(temperature=2.0),
    "scorer/reference_accuracy": ReferenceAccuracy(),
    "scorer/kta": KTA(temperature=2.0),
    "scorer/shuffled": Shuffled(KnFu(beta=3.0, temperature=2.0), seed=3),
    "scorer/random": Random(3),
}


def _built(option: str) -> object:
    config = OmegaConf.create({"temperature": 2.0, "seed": 3})
    config.part = OmegaConf.load(CONF / f"{option}.yaml")
    return instantiate(config.part)


@pytest.mark.parametrize("option", EXPECTED)
def test_an_option_builds_its_part_at_the_defaults(option: str) -> None:
    assert _built(option) == EXPECTED[option]


def test_the_ktpfl_option_builds_its_part_at_the_defaults() -> None:
    # A part with a memory equals only itself.
    assert repr(_built("scorer/ktpfl")) == repr(KTpFL(temperature=2.0))
