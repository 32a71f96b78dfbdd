"""Several runs' calls of their trainers, answered as one.

The runs of a sweep train many small models of one architecture. Where they ask for the same kind
of work at the same time, their clients become rows of one matrix, and a round of all runs costs
the launches of a round of one.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.obstacles import draws_randomly
from fedfuse.train.trainer import Student, Trainer
from fedfuse.train.views import same_views
from fedfuse.train.work import Work


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What one run asks of its trainer.

    Args:
        run: Which run asks.
        family: What the models were made from: runs with equal texts mean the same by the same
            name of an architecture.
        trainer: The run's own trainer.
        students: Whom it is about; of one architecture, at least one.
    """

    run: int
    family: str
    trainer: Trainer
    students: Sequence[Student]


@dataclass(frozen=True, slots=True, eq=False)
class Predict(Call):
    """``trainer.predict``."""

    inputs: Tensor
    batch_size: int


@dataclass(frozen=True, slots=True, eq=False)
class PredictEach(Call):
    """``trainer.predict_each``."""

    inputs: Sequence[Tensor]
    batch_size: int


@dataclass(frozen=True, slots=True, eq=False)
class Fit(Call):
    """``trainer.fit``."""

    works: Sequence[Work]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call returned, or the exception that it raised."""

    value: Any = None
    error: Exception | None = None


Kind = tuple[Any, ...]
"""What has to be equal for the clients of two calls to be rows of one matrix."""


@dataclass(slots=True)
class Joint:
    """Answers calls of several runs, as many at once as can be.

    Calls go together if their trainers are batched and their models, optimisers (with every
    hyperparameter), input shapes and losses are the same; other calls are answered one by one, and
    so are trainings of models that draw random numbers (dropout), whose draws would depend on who
    else is there. Numbers differ from those of a run alone by rounding only.

    A call that fails fails alone: what a joint answer could not give is asked again call by call.
    """

    _trainers: dict[Hashable, BatchedTrainer] = field(default_factory=dict)
    _draws: dict[Hashable, bool] = field(default_factory=dict)
    _shapes: WeakKeyDictionary[nn.Module, str] = field(default_factory=WeakKeyDictionary)
    _seen: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)

    def __call__(self, calls: Sequence[Call]) -> list[Outcome]:
        """Return the outcome of each call."""
        kinds = [self._kind(call) for call in calls]
        groups: dict[Hashable, list[list[int]]] = {}
        for i, (call, kind) in enumerate(zip(calls, kinds, strict=True)):
            alike = groups.setdefault(i if kind is None else kind, [])
            for group in alike:
                if self._agree(calls[group[0]], call, kind):
                    group.append(i)
                    break
            else:
                alike.append([i])
        outcomes = [Outcome()] * len(calls)
        for group in itertools.chain.from_iterable(groups.values()):
            answers = self._answer([calls[i] for i in group], kinds[group[0]])
            for i, outcome in zip(group, answers, strict=True):
                outcomes[i] = outcome
        return outcomes

    def _answer(self, calls: Sequence[Call], kind: Kind | None) -> list[Outcome]:
        """Return the outcomes of calls that agree."""
        try:
            return [Outcome(value) for value in self._together(calls, kind)]
        except Exception as error:
            if len(calls) == 1:
                return [Outcome(error=error)]
        # Somebody's fault, and nobody has moved: whose it is shows when each is asked alone.
        return [outcome for call in calls for outcome in self._answer([call], kind)]

    def _together(self, calls: Sequence[Call], kind: Kind | None) -> list[Any]:
        """Return the answers to calls that agree."""
        first = calls[0]
        trainer = self._trainer(first, kind)
        students = [_renamed(student, call.run) for call in calls for student in call.students]
        if isinstance(first, Fit):
            works = [work for call in calls if isinstance(call, Fit) for work in call.works]
            return _shares(calls, trainer.fit(students, works))
        if isinstance(first, PredictEach):
            own = [x for call in calls if isinstance(call, PredictEach) for x in call.inputs]
            return _shares(calls, trainer.predict_each(students, own, first.batch_size))
        asked = [call for call in calls if isinstance(call, Predict)]
        if not isinstance(trainer, BatchedTrainer):
            return [trainer.predict(students, asked[0].inputs, asked[0].batch_size)]
        pools, which = self._pools([call.inputs for call in asked])
        each = [pool for call, pool in zip(asked, which, strict=True) for _ in call.students]
        return _shares(calls, trainer.predict_pools(students, pools, each, asked[0].batch_size))

    def _agree(self, one: Call, other: Call, kind: Kind | None) -> bool:
        """Tell whether two calls of one kind can be answered together."""
        if kind is None:
            return False
        if isinstance(one, Fit) and isinstance(other, Fit):
            if self._random(one, kind):
                return False
            return all(_like(one.works[0], work) for work in other.works)
        if isinstance(one, Predict) and isinstance(other, Predict):
            return one.batch_size == other.batch_size and one.inputs.shape == other.inputs.shape
        assert isinstance(one, PredictEach)
        assert isinstance(other, PredictEach)
        return one.batch_size == other.batch_size

    def _trainer(self, call: Call, kind: Kind | None) -> Trainer:
        """Return who answers calls of this kind: what it finds out about them serves all runs."""
        own = call.trainer
        if kind is None or not isinstance(own, BatchedTrainer):
            return own
        key = kind[1:]
        if key not in self._trainers:
            self._trainers[key] = BatchedTrainer(
                own.precision, own.patches, own.fallback, atomic=True, clip_norm=own.clip_norm
            )
        return self._trainers[key]

    def _kind(self, call: Call) -> Kind | None:
        """Return a call's kind, None if it is answered alone.

        The type of the call comes first; the rest is what one trainer finds out about once.
        """
        if not isinstance(call.trainer, BatchedTrainer):
            return None
        student, model = call.students[0], call.students[0].model
        if isinstance(call, Fit):
            sample = call.works[0].inputs
        elif isinstance(call, PredictEach):
            sample = call.inputs[0]
        else:
            assert isinstance(call, Predict)
            sample = call.inputs
        if model not in self._shapes:
            self._shapes[model] = _shape(model)
        group = student.optimizer.param_groups[0]
        return (
            type(call),
            call.trainer,
            call.family,
            student.architecture,
            self._shapes[model],
            type(student.optimizer),
            tuple((name, repr(value)) for name, value in group.items() if name != "params"),
            tuple(sample.shape[1:]),
            str(sample.device),
        )

    def _pools(self, asked: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
        """Return the inputs without repetitions, and which of them each one was.

        Runs of one seed look at equal samples, each at its own copy, round after round; who was
        compared once is remembered, because a comparison makes a GPU wait.
        """
        for pool in asked:
            if pool not in self._seen:
                known = (label for other, label in self._seen.items() if _equal(pool, other))  # type: ignore[no-untyped-call]
                self._seen[pool] = next(known, object())
        found = {id(self._seen[pool]): pool for pool in reversed(asked)}
        place = {label: i for i, label in enumerate(found)}
        return list(found.values()), [place[id(self._seen[pool])] for pool in asked]

    def _random(self, call: Fit, kind: Kind) -> bool:
        if kind not in self._draws:
            self._draws[kind] = draws_randomly(call.students[0].model, call.works[0].inputs)
        return self._draws[kind]


def _shape(model: nn.Module) -> str:
    """Return the layers of a model with their sizes, in words."""
    sizes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    return f"{type(model).__module__}.{model}{sizes}"


def _like(one: Work, other: Work) -> bool:
    """Tell whether two clients' steps minimise the same."""
    if (one.anchor is None) != (other.anchor is None) or one.anchor_weight != other.anchor_weight:
        return False
    if one.anchor is not None and other.anchor is not None:
        views = one.anchor.views, other.anchor.views
        if one.anchor.loss != other.anchor.loss or not same_views(*views):
            return False
    if not same_views(one.views, other.views):
        return False
    return bool(one.loss == other.loss) and one.penalty is None and other.penalty is None


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.device == other.device and torch.equal(one, other)


def _renamed(student: Student, run: int) -> Student:
    """Return the student under an id that no other run's students have."""
    return replace(student, client_id=(run << 40) + student.client_id)


def _shares(calls: Sequence[Call], answers: Any) -> list[Any]:
    """Return each call's part of the answers, which come one per student."""
    parts, begin = [], 0
    for call in calls:
        parts.append(answers[begin : begin + len(call.students)])
        begin += len(call.students)
    return parts
