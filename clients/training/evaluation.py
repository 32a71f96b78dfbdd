"""How good the clients' models are: on their own distribution, the balanced one, validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch

from clients.training.arm import TestPrior
from clients.training.samples import ModelInputs
from fedfuse.compare.controls import POST_HOC_METRIC
from fedfuse.metrics import accuracy, client_metrics, cross_entropy
from fedfuse.prior import log_prior, remove_prior
from fedfuse.train.trainer import Student, Trainer
from fedfuse.types import ClientData, ClientMetrics, FederatedData, IntArray
from fedfuse.wire.messages import SPENT, TWIN


def _nothing() -> npt.NDArray[np.uint8]:
    return np.zeros(0, dtype=np.uint8)


@dataclass(slots=True)
class Tested:
    """How good one model is.

    Args:
        metrics: Its metrics by name.
        right_own: Which samples of the client's own test set it gets right, uint8 [bytes], a bit
            a sample.
        right_global: The same of the balanced test set.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    right_own: npt.NDArray[np.uint8] = field(default_factory=_nothing)
    right_global: npt.NDArray[np.uint8] = field(default_factory=_nothing)


Pair = tuple[torch.Tensor, torch.Tensor]
"""Logits [N, C] and labels [N]."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model says of a client's tests: logits and labels of each.

    Args:
        balanced: Of the balanced test set [N, C], as a test on which all classes are alike reads
            them.
        own: Of the client's own test set [M, C], as one that is distributed as its data reads them.
        validation: Of its validation data [V, C], read like ``own``; None without such data.
        validation_balanced: The same read like ``balanced``.
        plain: The balanced test set's as the model was trained.
        post_hoc: The balanced test set's without the prior; None unless that is told beside.
    """

    balanced: Pair
    own: Pair
    validation: Pair | None
    validation_balanced: Pair | None
    plain: Pair
    post_hoc: Pair | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluate students.

    Args:
        inputs: The samples.
        trainer: Who asks the models.
        batch_size: Samples per forward pass.
        prior: What of each client's label prior its tests read.
    """

    inputs: ModelInputs
    trainer: Trainer
    batch_size: int
    prior: TestPrior = field(default_factory=TestPrior)

    def __call__(self, students: Sequence[Student]) -> list[Tested]:
        """Test each student; those without validation data lack its metrics."""
        answers = self.answers(students)
        return [self.judged(s.client_id, own) for s, own in zip(students, answers, strict=True)]

    def judged(self, client_id: int, answers: Answers) -> Tested:
        """Return how good a client's answers are."""
        data, client = self.inputs.data, self.inputs.data.clients[client_id]
        metrics = client_metrics(*answers.balanced, in_test(data, client), own=answers.own)
        if answers.post_hoc is not None:
            metrics[POST_HOC_METRIC] = accuracy(*answers.post_hoc)
        if data.common:  # the server does not see how many samples a site tests on
            metrics["test_samples_own"] = float(len(client.test))
        elif (absent := self._absent(client_id, answers.balanced[1])).any():
            logits, labels = answers.balanced
            metrics["accuracy_absent"] = accuracy(logits[absent], labels[absent])
        if answers.validation is not None:
            metrics["accuracy_val"] = accuracy(*answers.validation)
            metrics["loss_val"] = cross_entropy(*answers.validation)
        balanced, own = (
            np.packbits((logits.argmax(dim=1) == labels).numpy())
            for logits, labels in (answers.balanced, answers.own)
        )
        return Tested(metrics, own, balanced)

    def _absent(self, client_id: int, labels: torch.Tensor) -> torch.Tensor:
        """Return which of these labels the client has never trained on, bool [N]."""
        return self.inputs.class_counts([client_id])[0].to(labels.device)[labels] == 0

    def answers(self, students: Sequence[Student]) -> list[Answers]:
        """Ask each student its client's tests.

        One pass over the balanced test set also answers those of the client's own test samples
        that are among them, unless the client sees its samples through a feature shift.
        """
        data, clients = self.inputs.data, [self.inputs.data.clients[s.client_id] for s in students]
        pool = self.trainer.predict(students, self.inputs.test(), self.batch_size).cpu()
        labels = torch.from_numpy(np.array(data.test.labels))
        priors = self.priors(clients)
        shared = [in_test(data, client) for client in clients]
        others = [client.test[at < 0] for client, at in zip(clients, shared, strict=True)]
        asked = [row for row, rows in enumerate(others) if len(rows)]
        validated = [row for row, client in enumerate(clients) if len(client.val)]
        wanted = [(data.own_pool, others[row], clients[row]) for row in asked]
        wanted += [(data.train, clients[row].val, clients[row]) for row in validated]
        rows = [self.inputs.rows(*which) for which in wanted]
        own = self.trainer.predict_each(
            [students[row] for row in (*asked, *validated)],
            [inputs for inputs, _ in rows],
            self.batch_size,
        )
        told = [(logits.cpu(), their.cpu()) for logits, (_, their) in zip(own, rows, strict=True)]
        beside = dict(zip(asked, told[: len(asked)], strict=True))
        held_back = dict(zip(validated, told[len(asked) :], strict=True))
        return [
            self._read(
                priors[row],
                (pool[row], labels),
                _joined((pool[row], labels), at, beside.get(row)),
                held_back.get(row),
            )
            for row, at in enumerate(shared)
        ]

    def public(self, students: Sequence[Student], index: torch.Tensor) -> list[Pair]:
        """Ask each student labelled public samples, read as where all classes are alike.

        Args:
            students: The students.
            index: Which of the public samples.
        """
        data, clients = self.inputs.data, [self.inputs.data.clients[s.client_id] for s in students]
        labels = torch.from_numpy(np.array(data.public.labels))[index]
        asked = self.inputs.whole_public()[index.to(self.inputs.device)]
        logits = self.trainer.predict(students, asked, self.batch_size).cpu()
        return [
            (self.prior.balanced(own, prior), labels)
            for own, prior in zip(logits, self.priors(clients), strict=True)
        ]

    def _read(
        self, prior: torch.Tensor | None, pool: Pair, own: Pair, validation: Pair | None
    ) -> Answers:
        """Return a client's logits as its tests read them: with its label prior, or without."""

        def as_own(pair: Pair) -> Pair:
            return self.prior.own(pair[0], prior), pair[1]

        def as_balanced(pair: Pair) -> Pair:
            return self.prior.balanced(pair[0], prior), pair[1]

        post_hoc = None
        if self.prior.post_hoc and prior is not None:
            post_hoc = remove_prior(pool[0], prior, self.prior.tau), pool[1]
        return Answers(
            as_balanced(pool),
            as_own(own),
            None if validation is None else as_own(validation),
            None if validation is None else as_balanced(validation),
            pool,
            post_hoc,
        )

    def validation(self, students: Sequence[Student]) -> list[float | None]:
        """Return each student's validation accuracy; None for those without such data."""
        data, clients = self.inputs.data, [self.inputs.data.clients[s.client_id] for s in students]
        rows = [row for row, client in enumerate(clients) if len(client.val)]
        held_back = [self.inputs.rows(data.train, clients[row].val, clients[row]) for row in rows]
        answers = self.trainer.predict_each(
            [students[row] for row in rows], [inputs for inputs, _ in held_back], self.batch_size
        )
        found: list[float | None] = [None] * len(students)
        priors = self.priors(clients)
        for row, logits, (_, labels) in zip(rows, answers, held_back, strict=True):
            found[row] = accuracy(self.prior.own(logits.cpu(), priors[row]), labels.cpu())
        return found

    def priors(self, clients: Sequence[ClientData]) -> Sequence[torch.Tensor | None]:
        """Return the logarithm of each client's class shares [C]; None where no test asks."""
        if not (clients and self.prior.asked):
            return [None] * len(clients)
        counts = self.inputs.class_counts([client.client_id for client in clients])
        return list(log_prior(counts, self.prior.floor))


def in_test(data: FederatedData, client: ClientData) -> IntArray:
    """Return where the client's own test samples stand in the balanced test set, -1 if nowhere.

    Nowhere is also where a sample of that set that the client sees in its own way stands.
    """
    if client.transform is not None or (data.own_test is not None and data.kept is None):
        return np.full(len(client.test), -1)
    if data.kept is None:
        return client.test
    at = np.minimum(np.searchsorted(data.kept, client.test), len(data.kept) - 1)
    return np.where(data.kept[at] == client.test, at, -1)


def _joined(pool: Pair, at: IntArray, beside: Pair | None) -> Pair:
    """Return logits [M, C] and labels [M] of the own test samples, in their order.

    Args:
        pool: Logits and labels of the balanced test set.
        at: Where the samples stand in it [M], -1 if nowhere.
        beside: Logits and labels of those that stand nowhere; None if there are none.
    """
    where = torch.from_numpy(np.ascontiguousarray(at))
    logits, labels = (values[where.clamp(min=0)] for values in pool)
    if beside is not None:
        logits[where < 0], labels[where < 0] = beside
    return logits, labels


def with_spending(
    tested: Sequence[Tested],
    cohort: Sequence[int],
    spent: Mapping[int, Mapping[str, float]],
    found: Mapping[int, Mapping[str, float]] = MappingProxyType({}),
) -> list[Tested]:
    """Return a cohort's tests and what it has spent; the latter alone where nobody was tested.

    What was found beside goes with tests, but for names that a test has.
    """
    for row, client_id in zip(tested, cohort, strict=False):
        row.metrics.update({**found.get(client_id, {}), **row.metrics})
    rows = list(tested) or [Tested() for _ in cohort]
    nothing = dict.fromkeys(SPENT, 0.0)
    for row, client_id in zip(rows, cohort, strict=True):
        row.metrics.update(spent.get(client_id, nothing))
    return rows


def with_twins(
    spent: Mapping[int, dict[str, float]], twins: Mapping[int, Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    """Return what clients have spent, and beside it what their local twins have."""
    nothing = dict.fromkeys(SPENT, 0.0)
    return {
        i: {**spent.get(i, nothing), **{f"{TWIN}{k}": v for k, v in twins.get(i, nothing).items()}}
        for i in {*spent, *twins}
    }


def stacked(table: Mapping[int, Tested], *, answers: bool) -> ClientMetrics | None:
    """Return what is known of clients, by ascending client; None if there are none."""
    ids = sorted(table)
    return as_table(ids, [table[i] for i in ids], answers=answers) if ids else None


def as_table(
    client_ids: Sequence[int], rows: Sequence[Tested], *, answers: bool = False
) -> ClientMetrics:
    """Stack what the tests of several clients found.

    Args:
        client_ids: Whose.
        rows: What was found; a metric that a client lacks (no validation data) is NaN.
        answers: Whether to tell which samples are right.
    """
    names = tuple(sorted({name for row in rows for name in row.metrics}))
    values = [[row.metrics.get(name, float("nan")) for name in names] for row in rows]
    return ClientMetrics(
        client_ids=torch.tensor(client_ids),
        names=names,
        values=torch.tensor(values, dtype=torch.float64),
        right_own=_together([row.right_own for row in rows]) if answers else None,
        right_global=_together([row.right_global for row in rows]) if answers else None,
    )


def _together(rows: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    """Stack bits of different lengths, zeros behind the shorter ones."""
    table = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.uint8)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(table)
