"""The steps of a lesson: samples that do not count cost none, and arms still spend alike."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clients.failure_isolation import take_steps
from clients.training.settings import ClientPlan
from clients.training.work_plan import WorkPlan
from fedfuse.distill import KL
from fedfuse.errors import FedfuseError
from fedfuse.rng import Streams
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.trainer import LoopTrainer, Student
from fedfuse.types import Space, Teachers

NUM_PUBLIC, BATCH = 10, 4
PLAN = ClientPlan(
    batch_size=3,
    local_epochs=1,
    distill_epochs=2,
    distill_batch_size=BATCH,
    private_weight=0.5,
    init="shared",
    optimizer_state="keep",
    threads=1,
    share_class_distribution=False,
    budget="optimiser_steps",
    eval_batch_size=8,
)


def work_plan(**changed) -> WorkPlan:
    draw = torch.Generator().manual_seed(0)
    private = [(torch.randn(7, 2, generator=draw), torch.arange(7) % 3) for _ in range(2)]
    public = torch.randn(NUM_PUBLIC, 2, generator=draw)
    clients = [SimpleNamespace(train=range(7), row=row) for row in range(2)]
    inputs = SimpleNamespace(
        device=torch.device("cpu"),
        data=SimpleNamespace(clients=clients, num_classes=3),
        rounds=SimpleNamespace(index=lambda _: torch.arange(NUM_PUBLIC), size=lambda _: NUM_PUBLIC),
        lesson=lambda _: public,
        private=lambda clients: [private[client.row] for client in clients],
        augmented=lambda work, *_: work,
    )
    return WorkPlan(inputs, replace(PLAN, **changed), KL(), Streams(0))  # type: ignore[arg-type]


def teachers(weight: torch.Tensor | None) -> Teachers:
    probs = torch.randn(2, NUM_PUBLIC, 3, generator=torch.Generator().manual_seed(1)).softmax(2)
    return Teachers(torch.arange(2), probs, Space.PROBABILITIES, weight)


def weights(*rows: list[int]) -> torch.Tensor:
    """Return weights [2, m], above 0 at the samples of each row."""
    made = torch.zeros(2, NUM_PUBLIC)
    for row, index in enumerate(rows):
        made[row, index] = 1.0 + row
    return made


def test_only_samples_that_count_are_visited_in_as_many_steps_of_as_many_samples():
    plan = work_plan()
    everything = plan.distillation([0, 1], 1, teachers(None))
    some = plan.distillation([0, 1], 1, teachers(weights([1, 2, 5, 9], [0])))
    for row, counts in enumerate(([1, 2, 5, 9], [0])):
        assert some[row].schedule.sizes == everything[row].schedule.sizes == (4, 4, 2, 4, 4, 2)
        visits = torch.bincount(some[row].schedule.order, minlength=NUM_PUBLIC)
        assert visits.nonzero().flatten().tolist() == counts
        assert int(visits[counts].max() - visits[counts].min()) <= 1, "alike"


def test_where_all_count_and_under_the_switch_nothing_changes():
    everything = work_plan().distillation([0, 1], 1, teachers(None))
    for plan, weight in (
        (work_plan(), torch.ones(2, NUM_PUBLIC)),
        (work_plan(left_out="visit"), weights([1, 2], [])),
    ):
        for work, plain in zip(
            plan.distillation([0, 1], 1, teachers(weight)), everything, strict=True
        ):
            assert torch.equal(work.schedule.order, plain.schedule.order)
            assert work.schedule.sizes == plain.schedule.sizes
    with pytest.raises(FedfuseError, match=r"'never'.*skip.*visit"):
        work_plan(left_out="never")


def held() -> list[Student]:
    made = []
    for client_id in range(2):
        torch.manual_seed(client_id)
        model = nn.Linear(2, 3)
        made.append(Student(client_id, "net", model, torch.optim.SGD(model.parameters(), lr=0.1)))
    return made


@pytest.mark.parametrize("trainer", [LoopTrainer(), BatchedTrainer()], ids=["loop", "batched"])
def test_a_client_for_whom_nothing_counts_takes_the_steps_on_its_private_data_alone(trainer):
    """Client 0 is taught, client 1 is not: the anchor's steps at the anchor's weight are left."""
    students, by_hand = held(), held()[1]
    works = work_plan().distillation([0, 1], 1, teachers(weights([1, 2], [])))
    spent = take_steps(trainer, list(zip(students, works, strict=True)), 1)
    steps = works[1].anchor.schedule.num_steps
    assert spent[0]["steps"] == spent[1]["steps"] == steps == 6
    assert spent[0]["samples"] == 20 + 14
    assert spent[1]["samples"] == 14, "no public sample"
    anchor = works[1].anchor
    start = 0
    for size in anchor.schedule.sizes:
        rows = anchor.schedule.order[start : start + size]
        start += size
        by_hand.optimizer.zero_grad()
        logits = by_hand.model(anchor.inputs[rows])
        (0.5 * anchor.loss(logits, anchor.targets[rows]).mean()).backward()
        by_hand.optimizer.step()
    torch.testing.assert_close(students[1].model.weight, by_hand.model.weight)
    untaught = held()[0]
    assert not torch.equal(students[0].model.weight, untaught.model.weight)


@pytest.mark.parametrize("trainer", [LoopTrainer(), BatchedTrainer()], ids=["loop", "batched"])
def test_without_an_anchor_it_takes_no_step(trainer):
    students, before = held(), held()
    works = work_plan(private_weight=0.0).distillation([0, 1], 1, teachers(weights([3], [])))
    spent = take_steps(trainer, list(zip(students, works, strict=True)), 1)
    assert spent[1] == {"steps": 0, "samples": 0}
    assert torch.equal(students[1].model.weight, before[1].model.weight)
    assert not torch.equal(students[0].model.weight, before[0].model.weight)


def test_local_steps_take_the_place_of_passes() -> None:
    works = work_plan(local_steps=2).local([0, 1], 1)
    assert [work.schedule.num_steps for work in works] == [2, 2]
    assert [work.num_samples for work in works] == [6, 6]  # two batches of 3, of 7 samples
    assert [work.schedule.num_steps for work in work_plan().local([0, 1], 1)] == [3, 3]
    assert work_plan(local_steps=2).passes([0], 4) == [12]  # somebody else's passes
    assert work_plan(local_steps=4, budget="samples").passes([0]) == [10]  # 3 + 3 + 1, and 3
