"""How good the clients' models are: on their own distribution, the balanced one, validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from clients.training.answers import Answers, Joined, Pair, positive
from clients.training.arm import TestPrior
from clients.training.samples import ModelInputs
from clients.training.tested import Tested
from fedfuse.compare.controls import POST_HOC_METRIC
from fedfuse.metrics import Judged
from fedfuse.prior import log_prior, remove_prior
from fedfuse.train.trainer import Student, Trainer
from fedfuse.types import ClientData, FederatedData, IntArray, Samples

Reading = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Logits and a client's prior to the logits that a test reads."""

CPU = torch.device("cpu")

MOST_LOGITS = 2**28
"""Logits that are judged at once: 1 GiB, and what is made of them may be as much again. Of 1,000
clients with 10,000 test samples of 10 classes it is all of the balanced test set."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluate students: many as one, and each as if it were alone.

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
        tested = list[Tested]()
        for some in self.at_once(students, len(self.inputs.data.test)):
            answers = self.answers(some, self.inputs.device)
            tested += self.judged([student.client_id for student in some], answers)
        return tested

    def at_once(self, students: Sequence[Student], samples: int) -> Iterator[Sequence[Student]]:
        """Yield as many students at a time as are judged together.

        Args:
            students: The students.
            samples: Of how many the answers of each are held meanwhile.
        """
        most = max(1, MOST_LOGITS // (samples * self.inputs.data.num_classes))
        for first in range(0, len(students), most):
            yield students[first : first + most]

    def judged(self, client_ids: Sequence[int], answers: Answers) -> list[Tested]:
        """Return how good each client's answers are."""
        data, clients = self.inputs.data, [self.inputs.data.clients[i] for i in client_ids]
        balanced = Judged.of(answers.balanced.logits, answers.balanced.labels)
        theirs = answers.own.logits, answers.own.labels
        own = Judged.of(*theirs) if answers.own_at is None else balanced.at(answers.own_at, *theirs)
        balanced, own = balanced.cpu(), own.cpu()
        table: dict[str, Sequence[float | None]] = {}
        for test, judged, sizes in (
            ("own", own, answers.own.sizes),
            ("global", balanced, answers.balanced.sizes),
        ):
            table |= {f"{name}_{test}": told for name, told in judged.told(sizes).items()}
        if answers.post_hoc is not None:
            table[POST_HOC_METRIC] = answers.post_hoc.accuracies()
        if data.common:  # the server does not see how many samples a site tests on
            table["test_samples_own"] = [float(len(client.test)) for client in clients]
        else:
            labels = answers.balanced.labels.cpu()
            table["accuracy_absent"] = self._on_absent(client_ids, balanced.right, labels)
        if sizes := positive(answers.validation.sizes):
            table["accuracy_val"] = answers.validation.accuracies()
            held_back = Judged.of(answers.validation.logits, answers.validation.labels)
            losses = iter(held_back.cpu().losses(sizes))
            where = answers.validation.sizes
            table["loss_val"] = [next(losses) if size else None for size in where]
        all_right = np.packbits(balanced.right.view(len(clients), -1).numpy(), axis=1)
        own_right = own.right.numpy()
        ends = np.cumsum(answers.own.sizes).tolist()
        return [
            Tested(
                {name: told for name, values in table.items() if (told := values[row]) is not None},
                np.packbits(own_right[end - size : end]),
                all_right[row],
            )
            for row, (end, size) in enumerate(zip(ends, answers.own.sizes, strict=True))
        ]

    def _on_absent(
        self, client_ids: Sequence[int], right: torch.Tensor, labels: torch.Tensor
    ) -> list[float | None]:
        """Return each client's accuracy where the label is one that it has never trained on.

        Args:
            client_ids: The clients.
            right: Which of the balanced tests each gets right, joined.
            labels: The labels of those.
        """
        absent = self.inputs.class_counts(client_ids) == 0  # [k, C]
        size, num_classes = len(client_ids), absent.shape[1]
        by_class = torch.arange(size).repeat_interleave(len(labels) // size) * num_classes + labels
        totals, hits = (
            (torch.bincount(by_class, weights, size * num_classes).view(size, -1) * absent).sum(1)
            for weights in (None, right.double())
        )
        pairs = zip(hits.tolist(), totals.tolist(), strict=True)
        return [hit / total if total else None for hit, total in pairs]

    def answers(self, students: Sequence[Student], device: torch.device = CPU) -> Answers:
        """Ask each student its client's tests.

        One pass over the balanced test set also answers those of the client's own test samples
        that are among them, unless the client sees its samples through a feature shift.

        Args:
            students: Whom.
            device: Where the answers are wanted: they are brought there together.
        """
        data, clients = self.inputs.data, [self.inputs.data.clients[s.client_id] for s in students]
        pool = self.trainer.predict(students, self.inputs.test(), self.batch_size).to(device)
        labels = torch.from_numpy(np.array(data.test.labels)).to(device)
        size, everybody = len(labels), range(len(clients))
        balanced = Joined(pool.flatten(0, 1), labels.repeat(len(clients)), [size] * len(clients))
        sizes = [len(client.test) for client in clients]
        at, owners = in_test(data, clients), np.repeat(everybody, sizes)
        outside = at < 0
        places = torch.from_numpy(np.where(outside, -1, owners * size + at)).to(device)
        logits, truth = balanced.logits[places], balanced.labels[places]
        if outside.any():
            others = np.concatenate([client.test for client in clients])[outside]
            counts = np.bincount(owners[outside], minlength=len(clients))
            index = np.split(others, np.cumsum(counts)[:-1])
            wanted = [(row, data.own_pool, index[row]) for row in everybody if counts[row]]
            beside = self._ask(students, wanted, device)
            where = places < 0
            logits[where], truth[where] = beside.logits, beside.labels
        val = self._ask(students, self._held_back(clients), device)
        return self._read(clients, pool, balanced, Joined(logits, truth, sizes), val, places)

    def _ask(
        self,
        students: Sequence[Student],
        wanted: Sequence[tuple[int, Samples, IntArray]],
        device: torch.device,
    ) -> Joined:
        """Ask some students, each by its place, about rows of a pool as its client sees them."""
        clients = [self.inputs.data.clients[student.client_id] for student in students]
        rows = self.inputs.each([(pool, index, clients[row]) for row, pool, index in wanted])
        asked = [students[row] for row, _, _ in wanted]
        told = self.trainer.predict_each(asked, [inputs for inputs, _ in rows], self.batch_size)
        sizes = [0] * len(students)
        for row, _, index in wanted:
            sizes[row] = len(index)
        if not wanted:
            nothing = torch.zeros(0, self.inputs.data.num_classes, device=device)
            return Joined(nothing, nothing[:, 0].long(), sizes)
        labels = torch.cat([their for _, their in rows])
        return Joined(torch.cat(told).to(device), labels.to(device), sizes)

    def _held_back(self, clients: Sequence[ClientData]) -> list[tuple[int, Samples, IntArray]]:
        train = self.inputs.data.train
        return [(row, train, client.val) for row, client in enumerate(clients) if len(client.val)]

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
        return [(own, labels) for own in self.prior.balanced(logits, self._prior_rows(clients))]

    def _read(
        self,
        clients: Sequence[ClientData],
        pool: torch.Tensor,
        plain: Joined,
        own: Joined,
        validation: Joined,
        places: torch.Tensor,
    ) -> Answers:
        """Return logits as the clients' tests read them: with their label priors, or without."""
        priors = self._prior_rows(clients)
        priors = None if priors is None else priors.to(pool.device)
        each = [None] * len(clients) if priors is None else list(priors)
        alike = priors is None or self.prior.use == "none"

        def read(by: Reading, told: Joined) -> Joined:
            return told if alike else _read_by(by, told, each)

        post_hoc = None
        if self.prior.post_hoc and priors is not None:
            without = remove_prior(pool, priors, self.prior.tau)
            post_hoc = replace(plain, logits=without.flatten(0, 1))
        return Answers(
            replace(plain, logits=self.prior.balanced(pool, priors).flatten(0, 1)),
            read(self.prior.own, own),
            read(self.prior.own, validation),
            read(self.prior.balanced, validation),
            plain,
            post_hoc,
            places if alike else None,
        )

    def validation(self, students: Sequence[Student]) -> list[float | None]:
        """Return each student's validation accuracy; None for those without such data."""
        clients = [self.inputs.data.clients[student.client_id] for student in students]
        told = self._ask(students, self._held_back(clients), CPU)
        return _read_by(self.prior.own, told, self.priors(clients)).accuracies()

    def _prior_rows(self, clients: Sequence[ClientData]) -> torch.Tensor | None:
        """Return the logarithm of each client's class shares [k, C]; None where no test asks."""
        if not (clients and self.prior.asked):
            return None
        counts = self.inputs.class_counts([client.client_id for client in clients])
        return log_prior(counts, self.prior.floor)

    def priors(self, clients: Sequence[ClientData]) -> Sequence[torch.Tensor | None]:
        """Return the logarithm of each client's class shares [C]; None where no test asks."""
        rows = self._prior_rows(clients)
        return [None] * len(clients) if rows is None else list(rows)


def _read_by(by: Reading, told: Joined, priors: Sequence[torch.Tensor | None]) -> Joined:
    """Return what models say as a test reads it, each model's with its client's prior."""
    parts = torch.split(told.logits, list(told.sizes))
    logits = torch.cat([by(part, prior) for part, prior in zip(parts, priors, strict=True)])
    return replace(told, logits=logits)


def in_test(data: FederatedData, clients: Sequence[ClientData]) -> IntArray:
    """Return where clients' own test samples stand in the balanced test set, -1 if nowhere.

    Nowhere is also where a sample of that set that the client sees in its own way stands.

    Returns:
        One client's behind the other's.
    """
    tests = np.concatenate([client.test for client in clients])
    shifted = [client.transform is not None for client in clients]
    own = np.repeat(shifted, [len(client.test) for client in clients])
    if data.kept is None:
        return np.where(own | (data.own_test is not None), -1, tests)
    at = np.minimum(np.searchsorted(data.kept, tests), len(data.kept) - 1)
    return np.where((data.kept[at] == tests) & ~own, at, -1)
