"""Clients judge each other: the gradients by hand, what travels, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from clients.exchange import ScoredSources
from experiments.run import main
from fedfuse.errors import ParameterError
from fedfuse.exchange.cuber import Cuber, Said, cosines, last_layer
from fedfuse.exchange.peers import AlsoPeers
from fedfuse.fusion.uploaded_scores import UploadedScores, log_scores
from fedfuse.testing import check_exchange, check_scorer, example_bank
from fedfuse.types import Fusion, KnowledgeBank, Space, Teachers
from tests import tiny

RUN = ["method=cuber", "baseline=none", "warmup_rounds=0", "partitioner=dirichlet"]


def bank(scores: torch.Tensor | None, ids: list[int]) -> KnowledgeBank:
    logits = torch.zeros(len(ids), 3, 2)
    counts = torch.ones(len(ids), dtype=torch.int64)
    return KnowledgeBank(torch.tensor(ids), logits, counts, scores=scores)


def test_D3_cosines_by_hand() -> None:
    own, others = torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    found = cosines(own, others)
    assert found.tolist() == pytest.approx([0.707107, -0.707107], abs=1e-5)
    scores = torch.tensor([[0.3, *found.tolist()], [0.0] * 3, [0.0] * 3])
    assert log_scores(scores)[0].exp().tolist() == pytest.approx([1, 0.707107, 0], abs=1e-5)
    assert log_scores(scores, epsilon=0.8)[0].exp().tolist() == [1, 0, 0]


def test_D3_a_twin_teaches_nothing_and_the_receiver_remains() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, features = torch.randn(6, 4, generator=draw), torch.randn(6, 3, generator=draw)
    said = Said(logits, features)
    other = torch.randn(6, 4, generator=draw)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    found = Cuber()(said, labels, said, torch.stack([logits, logits + 5, other]))
    assert found[:2].tolist() == [0, 0]  # a shift of all logits is the same prediction
    assert found[2] != 0
    scores = UploadedScores()(bank(found.expand(3, -1).clone(), [0, 1, 2]), None)
    assert scores[0, :2].tolist() == [0, -torch.inf]


def test_D3_gradients_are_those_of_the_last_layer() -> None:
    """Of the cross-entropy on private data and of KL(p_j || p_i), as torch takes them."""
    torch.manual_seed(0)
    body, head = nn.Sequential(nn.Linear(5, 3), nn.Tanh()), nn.Linear(3, 4)
    private, public, labels = torch.randn(7, 5), torch.randn(6, 5), torch.arange(7) % 4
    peers, temperature = torch.randn(2, 6, 4), 2.0

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(loss, [head.weight, head.bias])
        return torch.cat([parts[0], parts[1].unsqueeze(1)], dim=1).flatten()

    own = gradient(functional.cross_entropy(head(body(private)), labels))
    learned = [
        gradient(
            functional.kl_div(
                (head(body(public)) / temperature).log_softmax(dim=1),
                (peer / temperature).softmax(dim=1),
                reduction="batchmean",
            )
        )
        for peer in peers
    ]
    with torch.no_grad():
        sides = [Said(head(body(x)), body(x)) for x in (private, public)]
        found = Cuber(temperature)(sides[0], labels, sides[1], peers)
    torch.testing.assert_close(found, cosines(own, torch.stack(learned)), atol=1e-5, rtol=1e-5)
    errors = sides[0].logits.softmax(dim=1) - functional.one_hot(labels, 4)
    torch.testing.assert_close(last_layer(errors, sides[0].features), own, atol=1e-6, rtol=1e-5)


def test_D3_a_source_that_knows_the_labels_is_worth_more_than_one_that_lies() -> None:
    draw = torch.Generator().manual_seed(1)
    features, labels = torch.randn(40, 8, generator=draw), torch.arange(40) % 4
    features += 2 * functional.one_hot(labels, 8)  # what a class looks like
    said = Said(torch.zeros(40, 4), features)
    knows = 3.0 * functional.one_hot(labels, 4)
    lies = 3.0 * functional.one_hot((labels + 1) % 4, 4)
    right, wrong = Cuber()(said, labels, said, torch.stack([knows, lies])).tolist()
    assert right == pytest.approx(1, abs=1e-4)
    assert wrong < right - 0.5


def test_W11_scores_are_read_by_client_and_unknown_sources_are_heard_or_wait() -> None:
    nan = torch.nan
    known = torch.tensor([[nan, 0.1, 0.2, nan, 0.4], [nan, 0.5, -0.6, 0.7, 0.8]])
    told = bank(known, [1, 4])
    assert UploadedScores()(told, None).exp().tolist() == pytest.approx(
        torch.tensor([[1, 0.4], [0.5, 1]])
    )
    fresh = bank(torch.full((2, 5), nan), [1, 4])
    assert UploadedScores()(fresh, None).tolist() == [[0, 0], [0, 0]]
    waits = UploadedScores(unknown="left_out")(fresh, None)
    assert waits.tolist() == [[0, -torch.inf], [-torch.inf, 0]]
    assert UploadedScores()(bank(None, [1, 4]), None).tolist() == [[0, 0], [0, 0]]


def test_W11_everybody_is_sent_what_everybody_said() -> None:
    shared = example_bank(2, 3, 2)
    shared = KnowledgeBank(torch.tensor([1, 3]), shared.logits, shared.num_examples)
    targets = shared.logits.softmax(dim=2)
    fusion = Fusion(Teachers(shared.client_ids, targets, Space.PROBABILITIES), None)
    told = AlsoPeers(5)(shared, fusion, 1).teachers
    assert isinstance(told, Teachers)
    assert told.heard is not None
    assert told.peers is not None
    assert told.heard.tolist() == [[False, True, False, True, False]] * 2
    for row in told.peers:
        assert torch.equal(row[[1, 3]], shared.logits)
        assert row[[0, 2, 4]].abs().sum() == 0


def test_W11_keeps_every_promise_of_an_exchange() -> None:
    check_exchange(ScoredSources())
    check_scorer(UploadedScores())


def test_W11_the_first_fusion_is_a_mean_and_later_ones_hear_what_serves(simulate: Any) -> None:
    run = simulate(*RUN, "num_rounds=3", "num_clients=4")
    first, *later = (run.round_weights(round_)[1] for round_ in (1, 2, 3))
    np.testing.assert_allclose(first, 0.25)
    assert all(np.abs(weights - 0.25).max() > 0.01 for weights in later)
    rows = run.metrics[run.metrics["round"] == 3].set_index("metric").value
    k, m, c = 4, 100, 10
    assert rows["bytes_up"] == k * (4 * m * c + 4 * k + 8)
    assert rows["bytes_down"] == k * (4 * m * c + 4 * k * m * c + k)
    assert rows["bytes_down_broadcast"] == rows["bytes_down"]  # every teacher is another one


def test_W11_clients_judge_each_other_also_where_a_model_on_the_server_teaches(
    simulate: Any,
) -> None:
    taught = ["student=mlp", "student.hidden=8", "server.student_teaches=true"]
    run = simulate(*RUN, *taught, "num_rounds=2", "num_clients=3")
    first, second = (run.round_weights(round_)[1] for round_ in (1, 2))
    np.testing.assert_allclose(first, 1 / 3, rtol=1e-6)
    assert np.abs(second - 1 / 3).max() > 0.01


def test_W11_clients_judge_each_other_also_where_a_filter_leaves_samples_out(
    simulate: Any,
) -> None:
    run = simulate(*RUN, "filter=ambiguity", "num_rounds=2", "num_clients=3")
    assert np.abs(run.round_weights(2)[1] - 1 / 3).max() > 0.01
    rows = run.metrics.set_index(["round", "metric"]).value
    k, m, c = 3, 100, 10
    for round_ in (1, 2):
        assert rows[round_, "bytes_down"] == k * (4 * m * c + 4 * k * m * c + k + 4 * m)


def test_W11_who_rests_is_unknown_until_it_has_been_met(simulate: Any) -> None:
    words = ["participation=round_robin", "participation.fraction=0.5", "num_clients=4"]
    run = simulate(*RUN, *words, "num_rounds=4")
    assert len(run.metrics)
    first, again = (run.round_weights(round_)[1] for round_ in (1, 3))
    np.testing.assert_allclose(first[first > 0], 0.5)  # two clients that know nothing
    assert np.abs(again[again > 0] - 0.5).max() > 0.001


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("scorer=uploaded", "none of them tells: got scorer=uploadedscores"),
        ("method=cuber scorer=uniform", "K times the download, and nobody reads it"),
        ("method=cuber rule=none", "nobody reads it"),
        ("method=cuber codec=uint8", "not what comes with them"),
        ("method=cuber familiarity=gaussian", "which of them to trust"),
        ("method=cuber cache=rounds", "takes the place of some"),
        ("method=cuber privacy=label_only", "would leave unprotected"),
        ("method=cuber num_clients=33", "got num_clients=33, allowed: at most 32 clients"),
        ("method=cuber exchange.score.layers=all", "'layers' parameter of Cuber"),
        ("method=cuber scorer.unknown=heared", "Did you mean 'heard'?"),
        ("method=cuber exchange.score=3", "'score' parameter of ScoredSources"),
    ],
)
def test_W11_what_cannot_be_is_refused_before_training(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*tiny.TINY, *words.split(), f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert says in " ".join(error.split())
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "make", [lambda: Cuber(0), lambda: UploadedScores(-1), lambda: ScoredSources(score=3)]
)
def test_D3_parameters_are_checked(make: Any) -> None:
    with pytest.raises(ParameterError, match="parameter"):
        make()
