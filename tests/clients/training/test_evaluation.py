"""Every client's own test is answered in full, however it overlaps with the balanced one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.training import evaluation
from clients.training.evaluation import Evaluation
from clients.training.samples import ModelInputs
from fedfuse.data.public import HeldOut
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.data.split import federate
from fedfuse.data.tensors import gather
from fedfuse.partition import Dirichlet, FeatureRotation
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds
from fedfuse.train.trainer import LoopTrainer, Student


@pytest.mark.parametrize(
    ("partitioner", "limit", "overlap"),
    [
        (Dirichlet(alpha=0.3, min_samples=9), None, {"in"}),
        (Dirichlet(alpha=0.3, min_samples=9), 30, {"in", "out"}),
        (FeatureRotation(40), None, {"out"}),
        (FeatureRotation(40), 30, {"out"}),
    ],
)
def test_own_accuracy_is_that_of_the_own_samples(partitioner, limit, overlap):
    raw = synthetic(num_train=400, num_test=150, noise=0.6)
    data = federate(
        raw,
        partitioner=partitioner,
        num_clients=3,
        public=HeldOut(20),
        seed=0,
        max_test_samples=limit,
    )
    assert (data.own_test is None) == (limit is None)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    students = [
        Student(c.client_id, "mlp", model, torch.optim.SGD(model.parameters()))
        for c in data.clients
    ]
    inputs = ModelInputs(data, PublicRounds(All(), data.public, Streams(0)))
    evaluate = Evaluation(inputs, LoopTrainer(), 16)
    answers = evaluate.answers(students)
    # In no balanced test, in part or all: what is known of that one is what is judged apart.
    assert {"in" if at >= 0 else "out" for at in answers.own_at.tolist()} == overlap
    known, apart = (
        evaluate.judged(range(3), told) for told in (answers, replace(answers, own_at=None))
    )
    assert [tested.metrics for tested in known] == [tested.metrics for tested in apart]
    for client, tested in zip(data.clients, evaluate(students), strict=True):
        samples, labels = gather(data.own_pool, client.test, data.mean, data.std, client.transform)
        right = (model(samples).argmax(dim=1) == labels).numpy()
        assert 0.05 < right.mean() < 0.95
        assert tested.metrics["accuracy_own"] == pytest.approx(right.mean())
        np.testing.assert_array_equal(tested.right_own, np.packbits(right))
        lacking = ~np.isin(data.test.labels, data.train.labels[client.train])
        pool, _ = gather(data.test, np.arange(len(data.test.labels)), data.mean, data.std, None)
        hits = (model(pool).argmax(dim=1).numpy() == data.test.labels)[lacking]
        assert tested.metrics.get("accuracy_absent") == (
            pytest.approx(hits.mean()) if lacking.any() else None
        )
        assert len(tested.right_global) == (19 if limit is None else 4)


def test_of_very_many_clients_some_are_judged_at_a_time(monkeypatch):
    raw = synthetic(num_train=600, num_test=50, noise=0.6)
    data = federate(raw, partitioner=Dirichlet(0.5), num_clients=5, public=HeldOut(20), seed=0)
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)) for _ in range(5)]
    students = [
        Student(i, "mlp", model, torch.optim.SGD(model.parameters()))
        for i, model in enumerate(models)
    ]
    evaluate = Evaluation(
        ModelInputs(data, PublicRounds(All(), data.public, Streams(0))), LoopTrainer(), 16
    )
    together, asked = evaluate(students), []
    answers = Evaluation.answers

    def counted(self, some, *device):
        asked.append(len(some))
        return answers(self, some, *device)

    monkeypatch.setattr(Evaluation, "answers", counted)
    for most, sizes in ((2 * 50 * 10, [2, 2, 1]), (1, [1] * 5)):
        monkeypatch.setattr(evaluation, "MOST_LOGITS", most)
        apart = evaluate(students)
        assert asked == sizes
        asked.clear()
        for one, other in zip(together, apart, strict=True):
            assert one.metrics == other.metrics
            np.testing.assert_array_equal(one.right_own, other.right_own)
            np.testing.assert_array_equal(one.right_global, other.right_global)
    assert evaluate([]) == []
