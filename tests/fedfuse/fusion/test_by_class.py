"""The scorer by class: its term by hand, its limits to the bit, what its evidence still sees."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse import fusion
from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import All, ByClass, DataSize, KnFu, Pipeline, TopK, Uniform, evidence
from fedfuse.fusion.controls import Random, Shuffled
from fedfuse.fusion.ktpfl import KTpFL
from fedfuse.fusion.reference import KTA
from fedfuse.stateful import stateful_parts
from fedfuse.testing import check_scorer
from fedfuse.types import KnowledgeBank

EVIDENCE = ("counts", "epd", "consensus", "class_conditional", "public_accuracy", "spread")
RULES = [fusion.MeanProbabilities(2.0), fusion.GeometricMean(), fusion.MeanLogits()]


def make_bank(
    num_clients: int, num_samples: int = 6, num_classes: int = 4, hidden: float = 0.0, seed: int = 0
) -> KnowledgeBank:
    """Return clients that lean toward what they hold most of; NaN where there is no answer."""
    generator = torch.Generator().manual_seed(seed)
    shape = num_clients, num_samples, num_classes
    leaning = 2 * torch.randn(num_clients, 1, num_classes, generator=generator)
    logits = leaning + torch.randn(shape, generator=generator)
    mask = torch.rand(shape[:2], generator=generator) >= hidden
    return KnowledgeBank(
        client_ids=torch.arange(num_clients),
        logits=torch.where(mask.unsqueeze(-1), logits, torch.nan) if hidden else logits,
        num_examples=torch.randint(1, 100, (num_clients,), generator=generator),
        class_distribution=(2 * leaning.squeeze(1)).softmax(dim=1),
        mask=mask if hidden else None,
    )


LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def test_counts_by_hand() -> None:
    # Two clients with 8 and 2 samples: 8, 0 and 1, 1 of the classes. Square roots: 2.828, 0.707
    # (the floor of 1/2) and 1, 1, so the first has 0.7388 and 0.4142 of the two classes.
    shares = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    bank = KnowledgeBank(torch.arange(2), torch.zeros(2, 1, 2), torch.tensor([8, 2]), shares)
    scores = ByClass(Uniform())(bank, None)
    expected = torch.tensor([[0.7388, 0.4142], [0.2612, 0.5858]])
    torch.testing.assert_close(scores.source.exp(), expected, rtol=0, atol=1e-4)
    assert not scores.pair.any()


def test_the_other_evidence_by_hand() -> None:
    logits = torch.tensor([[[0.8, 0.2], [0.4, 0.6]], [[0.4, 0.6], [0.4, 0.6]]]).log()
    # Expected shares 0.6 and 0.4 of 10 samples.
    close = {"rtol": 1e-5, "atol": 1e-6}
    found = evidence.expected_counts(logits[:1], torch.tensor([10]), None, 1.0, 0.5)
    torch.testing.assert_close(found, torch.tensor([[6.0, 4.0]]), **close)
    # The clients together: 0.6, 0.4 and 0.4, 0.6. First client on the first class:
    # (0.8 0.6 + 0.4 0.4 + 1) / (1 + 2); on the second (0.2 0.4 + 0.6 0.6 + 1) / (1 + 2).
    together = torch.tensor([[0.6, 0.4], [0.4, 0.6]])
    found = evidence.confidence_on(logits[:1], together, None, 1.0)
    torch.testing.assert_close(found, torch.tensor([[1.64 / 3, 1.44 / 3]]), **close)
    # By label the first sample is of class 0, the second of 1, and the first client gets both.
    found = evidence.public_accuracy(logits, torch.tensor([0, 1]), None)
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 2 / 3], [1 / 3, 2 / 3]]), **close)
    # Three classes, the logit of the first 3 or -3 and of the others 0: centred 2, -1, -1 or their
    # negatives, so deviations 2, 1, 1 over the root of their mean square, 2.
    three = torch.tensor([[[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]]])
    found = evidence.spread(three, None)
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0, 1.0]]) / math.sqrt(2), **close)
    alike = evidence.spread(torch.zeros(1, 2, 3), None)
    assert alike.tolist() == [[1, 1, 1]], "who tells nothing apart is worth as much on every class"


def fuse(scorer: Any, rule: Any = RULES[0], near: Any = All()) -> Pipeline:  # noqa: B008
    return Pipeline(scorer, near, rule)


@settings(max_examples=15, deadline=None)
@given(
    num_clients=st.integers(1, 9),
    seed=st.integers(0, 1_000),
    rule=st.sampled_from(RULES),
    near=st.sampled_from([All(), TopK(3), fusion.TopP(0.8)]),
    chosen=st.sampled_from(EVIDENCE),
    hidden=st.sampled_from([0.0, 0.3]),
)
def test_exponent_zero_is_the_other_scorer_to_the_bit(
    num_clients: int, seed: int, rule: Any, near: Any, chosen: str, hidden: float
) -> None:
    bank = make_bank(num_clients, seed=seed, hidden=hidden)
    mean = fuse(Uniform(), rule, near)(bank)
    for inner, expected in (
        (KnFu(), fuse(KnFu(), rule, near)(bank)),
        (Uniform(), mean),
        (KnFu(beta=0), mean),
    ):
        scorer = ByClass(inner, chosen, exponent=0)
        assert not scorer.by_class
        assert not scorer.needs_labels
        assert not scorer.needs_class_distribution
        fused = fuse(scorer, rule, near)(bank)
        assert torch.equal(fused.weights, expected.weights)
        assert torch.equal(fused.teachers.targets, expected.teachers.targets)
        assert fused.by_class is None


@pytest.mark.thinned
@pytest.mark.parametrize("chosen", EVIDENCE)
@pytest.mark.parametrize("inner", [Uniform(), KnFu(beta=2.0), DataSize()], ids=repr)
@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("hidden", [0.0, 0.4])
def test_streamed_equals_dense(chosen: str, inner: Any, rule: Any, hidden: float) -> None:
    bank = make_bank(60, hidden=hidden)
    for include_self in (True, False):
        streams = Pipeline(
            ByClass(inner, chosen), TopK(3, include_self), rule, fusion.Power(2), dense_bytes=0
        )
        dense = replace(streams, neighbours=lambda s: TopK(3, include_self)(s))  # noqa: B023
        sparse, whole = streams(bank, LABELS), dense(bank, LABELS)
        assert sparse.weights.is_sparse
        assert torch.equal(sparse.weights.to_dense() > 0, whole.weights > 0)
        close = {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(sparse.weights.to_dense(), whole.weights, **close)
        torch.testing.assert_close(sparse.teachers.targets, whole.teachers.targets, **close)
        torch.testing.assert_close(sparse.by_class.shares, whole.by_class.shares, **close)
        if hidden:
            assert torch.equal(sparse.teachers.sample_weight, whole.teachers.sample_weight)


@pytest.mark.parametrize("inner", [Uniform(), KnFu(beta=2.0), DataSize()], ids=repr)
def test_a_bank_in_float64_streams_as_well(inner: Any) -> None:
    bank = make_bank(60)
    bank = replace(bank, logits=bank.logits.double())
    streams = Pipeline(ByClass(inner), TopK(3), RULES[0], dense_bytes=0)
    dense = replace(streams, neighbours=lambda scores: TopK(3)(scores))
    sparse, whole = streams(bank), dense(bank)
    assert torch.equal(sparse.weights.to_dense() > 0, whole.weights > 0)
    torch.testing.assert_close(
        sparse.teachers.targets, whole.teachers.targets, rtol=1e-5, atol=1e-5
    )


def test_two_thousand_clients_choose_in_blocks_as_at_once() -> None:
    bank = make_bank(2_000, num_samples=3, num_classes=5, seed=2)
    streams = Pipeline(ByClass(KnFu()), TopK(10), fusion.MeanProbabilities(), dense_bytes=0)
    dense = replace(streams, neighbours=lambda scores: TopK(10)(scores))
    sparse, whole = streams(bank), dense(bank)
    assert torch.equal(sparse.weights.to_dense() > 0, whole.weights > 0)
    torch.testing.assert_close(
        sparse.teachers.targets, whole.teachers.targets, rtol=1e-5, atol=1e-5
    )


def test_exponent_zero_streams_to_the_bit() -> None:
    bank = make_bank(60)
    for inner in (KnFu(), Uniform()):
        plain = Pipeline(inner, TopK(3), RULES[0], dense_bytes=0)(bank)
        zero = Pipeline(ByClass(inner, exponent=0), TopK(3), RULES[0], dense_bytes=0)(bank)
        assert torch.equal(zero.teachers.targets, plain.teachers.targets)
        assert torch.equal(zero.weights.to_dense(), plain.weights.to_dense())


@pytest.mark.parametrize("chosen", EVIDENCE)
def test_every_scorer_keeps_its_promises(chosen: str) -> None:
    check_scorer(ByClass(Uniform(), chosen))
    check_scorer(ByClass(KnFu(), chosen, exponent=1.0))
    check_scorer(Shuffled(ByClass(KnFu(), chosen)))


@pytest.mark.parametrize("chosen", EVIDENCE)
def test_what_evidence_sees_of_a_prior(chosen: str) -> None:
    """A constant of every class, such as the logarithm of a client's label prior."""
    bank = make_bank(5, num_samples=40, seed=3)
    labels = torch.arange(40) % 4
    prior = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(1))
    with_prior = replace(bank, logits=bank.logits + 3 * prior)
    scorer = ByClass(Uniform(), chosen)
    terms = [scorer.class_term(b, labels, torch.device("cpu")) for b in (bank, with_prior)]
    blind = chosen in ("counts", "spread")
    assert torch.allclose(*terms, rtol=1e-4, atol=1e-4) == blind


def test_it_asks_for_no_more_than_it_reads() -> None:
    needs = {
        chosen: (
            ByClass(Uniform(), chosen).needs_labels,
            ByClass(Uniform(), chosen).needs_class_distribution,
        )
        for chosen in EVIDENCE
    }
    assert needs == {
        "counts": (False, True),
        "epd": (False, False),
        "consensus": (False, False),
        "class_conditional": (True, False),
        "public_accuracy": (True, False),
        "spread": (False, False),
    }
    assert ByClass(KTA(), "epd").needs_labels
    assert ByClass(KnFu("oracle"), "epd").needs_class_distribution


def test_what_a_scorer_within_two_others_cannot_take_is_refused_of_its_client() -> None:
    bank = make_bank(4)
    shares = torch.full((4, 4), 0.25)
    shares[2] = 0.5
    scorer = Shuffled(ByClass(KnFu("oracle"), "epd"))
    pipeline = Pipeline(scorer, All(), fusion.MeanProbabilities())
    with pytest.raises(KnowledgeError, match="no distribution") as refused:
        pipeline.check_bank(replace(bank, class_distribution=shares))
    assert refused.value.client_ids == (2,)


def test_what_is_inside_stays_what_it_is() -> None:
    bank = make_bank(4)
    drawn = ByClass(Random(), "epd")
    pairs = [drawn.at_round(n)(bank, None).pair for n in (1, 1, 2)]
    assert torch.equal(pairs[0], pairs[1])
    assert not torch.equal(pairs[0], pairs[2])
    assert ByClass(KnFu()).at_round(3) == ByClass(KnFu())
    learning = ByClass(KTpFL())
    assert learning.learned
    assert list(stateful_parts({"scorer": learning})) == ["scorer.scorer"]
    assert not learning.searches
    many = make_bank(60)
    dense = Pipeline(ByClass(KTA(), "epd"), TopK(2), RULES[0], dense_bytes=0)(many, LABELS)
    assert not dense.weights.is_sparse, "a scorer that cannot search scores all pairs"
    seen: list[Tensor | None] = []

    def inner(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
        seen.append(labels)
        return torch.zeros(4, 4)

    Pipeline(ByClass(inner, "public_accuracy"), All(), RULES[0])(bank, LABELS)
    assert seen == [None], "it never said that it reads labels"


def test_shuffled_moves_whole_sources_and_keeps_ones_own() -> None:
    bank = make_bank(5)
    scores = ByClass(KnFu())(bank, None)
    whole = scores.pair.unsqueeze(2) + scores.source
    shuffled = Shuffled(ByClass(KnFu()), seed=1)(bank, None)
    assert shuffled.shape == (5, 5, 4)
    for i in range(5):
        assert torch.equal(shuffled[i, i], whole[i, i])
        rows = {tuple(row) for row in shuffled[i].tolist()}
        assert rows == {tuple(row) for row in whole[i].tolist()}
    assert not torch.equal(shuffled, whole)
    fused = Pipeline(Shuffled(ByClass(KnFu())), All(), RULES[0])(bank)
    torch.testing.assert_close(fused.by_class.shares.sum(dim=0), torch.ones(4))


def test_one_client_alone_keeps_what_it_knows() -> None:
    bank = make_bank(1)
    for chosen in EVIDENCE:
        fused = fuse(ByClass(KnFu(), chosen))(bank, LABELS)
        own = (bank.logits / 2).softmax(-1)
        torch.testing.assert_close(fused.teachers.targets, own, rtol=1e-5, atol=1e-6)
        assert fused.weights.tolist() == [[1.0]]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"exponent": -0.5}, "'exponent' parameter of ByClass.*at least 0"),
    ({"exponent": math.nan}, "'exponent'"),
    ({"exponent": True}, "'exponent'"),
    ({"floor": 0}, "'floor' parameter of ByClass.*above 0"),
    ({"evidence": "count"}, "Did you mean 'counts'"),
    ({"temperature": 0}, "'temperature'"),
    ({"scorer": "knfu"}, "'scorer'"),
    ({"scorer": ByClass(Uniform())}, "without class weights of its own"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ByClass(**{"scorer": Uniform(), **options})


def test_what_was_not_sent_is_named() -> None:
    bank = replace(make_bank(3), class_distribution=None)
    with pytest.raises(KnowledgeError, match=r"class shares.*share_class_distribution=true"):
        fuse(ByClass(Uniform()))(bank)
    with pytest.raises(KnowledgeError, match="ByClass needs the labels"):
        fuse(ByClass(Uniform(), "public_accuracy"))(bank)
