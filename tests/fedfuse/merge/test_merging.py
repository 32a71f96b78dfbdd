"""What the server makes of models: the slot, its base, buffers, and who gets what."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from fedfuse.exchange.distilled import DistilledAverage
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.layout import Layout
from fedfuse.merge import Base, Mean, Vectors, merged
from fedfuse.merge.mean import weighted_average
from fedfuse.rng import Streams
from fedfuse.stateful import collect, give_back
from fedfuse.testing import CheckFailed, check_merge, example_vectors
from fedfuse.user_code import PartError


@dataclass(frozen=True)
class Sum:
    """The base, moved by the sum of all task vectors."""

    needs_base: ClassVar[bool] = True
    by_weights: ClassVar[bool] = False

    def __call__(self, models: Vectors, receivers: Tensor) -> Tensor:
        return models.moved(models.task_vectors().sum(dim=0))


@dataclass(frozen=True)
class Numbered:
    """The mean, moved by the receiver's number."""

    needs_base: ClassVar[bool] = False
    personal: ClassVar[bool] = True

    def __call__(self, models: Vectors, receivers: Tensor) -> Tensor:
        return Mean()(models, receivers) + receivers.view(-1, 1)


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    made(torch.randn(5 + seed, 1, 4, 4))  # moves the running statistics and the counter
    return made


LAYOUT = Layout.of(net(0))
PARAMETERS = LAYOUT.part(buffers=False)


def sent(*seeds: int) -> ModelBank:
    models = [LAYOUT.flatten(net(seed)) for seed in seeds]
    return ModelBank.of(range(len(seeds)), [10 * (i + 1) for i in range(len(seeds))], models)


def server(merge: object = Mean(), base: Base | None = None) -> AverageModels:
    return AverageModels(("a",) * 3, {"a": LAYOUT}, merge=merge, base=base)  # type: ignore[arg-type]


def rows(average: AverageModels, bank: ModelBank, round_: int = 1) -> list[Tensor]:
    down = average(bank, round_).teachers
    assert isinstance(down, ModelBank)
    return down.vectors()


def test_W9_the_mean_is_what_it_was_to_the_bit() -> None:
    """As it was before there were merges: each tensor, buffers too, averaged in its own type."""
    states = [net(seed).state_dict() for seed in (1, 2)]
    shares = torch.tensor([10.0, 20.0]).double()
    shares = shares / shares.sum()
    wanted = []
    for name in states[0]:
        stacked = torch.stack([state[name] for state in states]).double()
        mean = torch.einsum("k,k...->...", shares, stacked)
        whole = not states[0][name].is_floating_point()
        wanted.append((mean.round() if whole else mean).to(states[0][name].dtype).flatten().float())
    for row in rows(server(), sent(1, 2)):
        assert torch.equal(row, torch.cat(wanted))


def test_W9_buffers_are_averaged_whatever_the_merge() -> None:
    begun = PARAMETERS.flatten(net(0))
    made = rows(server(Sum(), Base("first", {"a": begun})), sent(1, 2))
    state, mean = LAYOUT.unflatten(made[0]), LAYOUT.unflatten(rows(server(), sent(1, 2))[0])
    assert set(LAYOUT.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    for name in LAYOUT.buffers:
        assert torch.equal(state[name], mean[name])
    parameters = [PARAMETERS.flatten(net(seed)).double() for seed in (1, 2)]
    wanted = (begun.double() + sum(one - begun.double() for one in parameters)).float()
    assert torch.equal(PARAMETERS.pack(state), wanted)


@pytest.mark.parametrize(
    ("which", "alike"),
    [("last", True), ("first", True), ("last_or_mean", True), ("last_or_mean", False)],
)
def test_W9_the_base_is_what_was_sent_last_or_first(which: str, alike: bool) -> None:
    begun = PARAMETERS.flatten(net(0))
    average = server(Sum(), Base(which, {"a": begun}, alike))
    parameters = [PARAMETERS.flatten(net(seed)) for seed in (1, 2)]

    def moved(base: Tensor) -> Tensor:
        return (sum(one.double() - base.double() for one in parameters) + base.double()).float()

    mean = PARAMETERS.pack(LAYOUT.unflatten(rows(server(), sent(1, 2))[0]))
    first = moved(begun) if alike else mean
    for wanted in (first, moved(begun if which == "first" else first)):
        saved = collect({"combine": average})
        got = PARAMETERS.pack(LAYOUT.unflatten(rows(average, sent(1, 2))[0]))
        torch.testing.assert_close(got, wanted)
        resumed = server(Sum(), Base(which, {"a": begun}, alike))
        give_back({"combine": resumed}, saved)
        again = PARAMETERS.pack(LAYOUT.unflatten(rows(resumed, sent(1, 2))[0]))
        assert torch.equal(again, got), "a resumed server goes on from what was sent"
    assert not collect({"combine": server()}), "the mean remembers nothing"


def test_W9_the_base_of_a_model_that_is_distilled_on_the_server_is_what_was_sent() -> None:
    base = Base("last", {"a": PARAMETERS.flatten(net(0))})
    inputs = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    average = server(Sum(), base)
    distils = DistilledAverage(average, {"a": net(0)}, inputs, Streams(0), epochs=2, batch_size=4)
    down = distils(sent(1, 2), 1).teachers
    assert isinstance(down, ModelBank)
    noted = base.of("a")
    assert noted is not None
    assert torch.equal(noted, PARAMETERS.pack(LAYOUT.unflatten(down.vectors()[0])))


def test_W9_receivers_may_get_rows_of_their_own() -> None:
    fusion = server(Numbered())(sent(1, 2), 1)
    down = fusion.teachers
    assert isinstance(down, ModelBank)
    mean = rows(server(), sent(1, 2))[0]
    inside = LAYOUT.in_buffers()
    for client, row in zip(down.client_ids.tolist(), down.vectors(), strict=True):
        assert torch.equal(row[~inside], mean[~inside] + client)
        assert torch.equal(row[inside], mean[inside])


def test_W9_shares_say_whose_models_count() -> None:
    weighed = server()(sent(1, 2), 1).weights
    alike = server(Sum(), Base("first", {"a": PARAMETERS.flatten(net(0))}))(sent(1, 2), 1).weights
    assert weighed is not None
    assert alike is not None
    torch.testing.assert_close(weighed[0], torch.tensor([1 / 3, 2 / 3, 0]))
    assert alike[2].tolist() == [0.5, 0.5, 0]
    average = server(Sum(), Base("last_or_mean", {"a": PARAMETERS.flatten(net(0))}, alike=False))
    first, second = (average(sent(1, 2), round_).weights for round_ in (1, 2))
    assert first is not None
    assert torch.equal(first, weighed), "without a base models are averaged"
    assert second is not None
    assert torch.equal(second, alike)


def test_W9_each_architecture_is_merged_by_itself_or_all_are_seen_at_once() -> None:
    seen = []

    class Across:
        needs_base = False

        def across(self, groups, receivers):
            pairs = list(zip(groups, receivers, strict=True))
            seen.extend((group.architecture, who.tolist()) for group, who in pairs)
            return [Mean()(group, who) for group, who in pairs]

    small = Layout.of(nn.Linear(1, 1))
    bank = ModelBank.of(
        [0, 1, 2], [1, 1, 3], [torch.tensor([1.0, 2]), torch.ones(2), torch.zeros(2)]
    )
    average = AverageModels(("s", "l", "s"), {"s": small, "l": small})
    apart = rows(average, bank)
    assert [row.tolist() for row in apart] == [[0.25, 0.5], [1, 1], [0.25, 0.5]]
    together = rows(replace(average, merge=Across()), bank)  # type: ignore[arg-type]
    assert torch.equal(torch.stack(together), torch.stack(apart))
    assert seen == [("s", [0, 2]), ("l", [1])]


WRONG = {
    "a list": lambda models, who: [0.0],
    "whole numbers": lambda models, who: torch.zeros(1, models.vectors.shape[1], dtype=torch.int64),
    "one row for each, undeclared": lambda models, who: models.vectors[:1].repeat(len(who), 1),
    "NaN": lambda models, who: models.vectors[:1] * torch.nan,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_W9_what_is_no_model_is_refused(wrong: str) -> None:
    class Mine:
        needs_base = False

        def __call__(self, models, receivers):
            return WRONG[wrong](models, receivers)

    with pytest.raises(PartError, match="The merge Mine did not return models in round 2"):
        merged(Mine(), [example_vectors()], [torch.arange(9)])
    with pytest.raises(CheckFailed, match="did not return models"):
        check_merge(Mine())


def test_W9_the_check_for_authors() -> None:
    for part in (Mean(), Sum(), Numbered()):
        check_merge(part)

    class Draws(Mean):
        def __call__(self, models, receivers):
            return models.vectors[:1] + torch.rand(1)

    class Changes(Mean):
        def __call__(self, models, receivers):
            return models.vectors.mul_(2)[:1].clone()

    class Undeclared:
        needs_base = "yes"

        def __call__(self, models, receivers):
            return models.vectors[:1]

    class Peeks(Numbered):
        def __call__(self, models, receivers):
            return models.vectors[:1] + receivers.view(-1, 1) + len(receivers)

    @dataclass
    class Forgets:
        needs_base: ClassVar[bool] = False
        seen: list[int] = field(default_factory=list)

        def __call__(self, models, receivers):
            self.seen.append(1)
            return models.vectors[:1] * len(self.seen)

        def state(self):
            return {}

        def restore(self, state):
            pass

    wrong = {Draws(): "random", Changes(): "changes its", Undeclared(): "needs_base"}
    for part, words in (*wrong.items(), (Peeks(), "who else"), (Forgets(), "called again")):
        with pytest.raises(CheckFailed, match=words):
            check_merge(part)


def test_W9_randomness_is_of_the_architecture_the_round_and_the_name() -> None:
    def drawn(models: Vectors, *name: int | str) -> float:
        return float(torch.rand(1, generator=models.generator(*name)))

    one = example_vectors()
    others = [
        replace(one, round=3),
        replace(one, architecture="x"),
        replace(one, streams=Streams(1)),
    ]
    values = {drawn(one, "drop", 1), drawn(one, "drop", 2), *(drawn(o, "drop", 1) for o in others)}
    assert len(values) == 5
    assert drawn(one, "drop", 1) in values
    assert weighted_average([{"w": torch.ones(1)}], torch.ones(1))["w"].tolist() == [1]
