"""How good the clients' models are: on their own distribution, the balanced one, validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from clients.samples import ModelInputs
from fedfuse.metrics import accuracy, client_metrics, cross_entropy
from fedfuse.train.trainer import Student, Trainer
from fedfuse.types import ClientMetrics


@dataclass(slots=True)
class Tested:
    """How good one model is.

    Args:
        metrics: Its metrics by name.
        right_own: Which samples of the client's own test set it gets right, uint8 [bytes], a bit
            a sample.
        right_global: The same of the balanced test set.
    """

    metrics: dict[str, float]
    right_own: npt.NDArray[np.uint8]
    right_global: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluate students.

    Args:
        inputs: The samples.
        trainer: Who asks the models.
        batch_size: Samples per forward pass.
    """

    inputs: ModelInputs
    trainer: Trainer
    batch_size: int

    def __call__(self, students: Sequence[Student]) -> list[Tested]:
        """Test each student; those without validation data lack its metrics.

        One pass over the test pool serves the balanced test set and the client's own, which is a
        choice of its rows, unless the client sees its samples through a feature shift or its
        site has test samples of its own.
        """
        data, clients = self.inputs.data, [self.inputs.data.clients[s.client_id] for s in students]
        pool = self.trainer.predict(students, self.inputs.test(), self.batch_size).cpu()
        labels = torch.from_numpy(np.array(data.test.labels))
        elsewhere = data.own_test is not None
        shifted = [
            row for row, client in enumerate(clients) if elsewhere or client.transform is not None
        ]
        validated = [row for row, client in enumerate(clients) if len(client.val)]
        wanted = [(data.own_pool, clients[row].test, clients[row]) for row in shifted]
        wanted += [(data.train, clients[row].val, clients[row]) for row in validated]
        rows = [self.inputs.rows(*which) for which in wanted]
        own = self.trainer.predict_each(
            [students[row] for row in (*shifted, *validated)],
            [inputs for inputs, _ in rows],
            self.batch_size,
        )
        answers = [
            (logits.cpu(), their.cpu()) for logits, (_, their) in zip(own, rows, strict=True)
        ]
        tested = dict(zip(shifted, answers[: len(shifted)], strict=True))
        held_back = dict(zip(validated, answers[len(shifted) :], strict=True))
        table = []
        for row, client in enumerate(clients):
            metrics = client_metrics(pool[row], labels, client.test, own=tested.get(row))
            if row in held_back:
                metrics["accuracy_val"] = accuracy(*held_back[row])
                metrics["loss_val"] = cross_entropy(*held_back[row])
            right = pool[row].argmax(dim=1) == labels
            if row in tested:
                logits, their = tested[row]
                own_right = logits.argmax(dim=1) == their
            else:
                own_right = right[torch.from_numpy(np.array(client.test))]
            table.append(
                Tested(metrics, np.packbits(own_right.numpy()), np.packbits(right.numpy()))
            )
        return table

    def validation(self, students: Sequence[Student]) -> list[float | None]:
        """Return each student's validation accuracy; None for those without such data."""
        data, clients = self.inputs.data, [self.inputs.data.clients[s.client_id] for s in students]
        rows = [row for row, client in enumerate(clients) if len(client.val)]
        held_back = [self.inputs.rows(data.train, clients[row].val, clients[row]) for row in rows]
        answers = self.trainer.predict_each(
            [students[row] for row in rows], [inputs for inputs, _ in held_back], self.batch_size
        )
        found: list[float | None] = [None] * len(students)
        for row, logits, (_, labels) in zip(rows, answers, held_back, strict=True):
            found[row] = accuracy(logits.cpu(), labels.cpu())
        return found


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
