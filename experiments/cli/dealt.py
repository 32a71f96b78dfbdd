"""A federation's data, dealt out: as a table, as tidy numbers, as JSON, as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.report.figure import Figure, Numbers
from experiments.report.sections import labels_figure
from experiments.terminal.bars import bars as bar_row
from experiments.terminal.columns import aligned, folded
from fedfuse.partition import preview
from fedfuse.partition.stats import PartitionStats
from fedfuse.types import FederatedData

SPLITS = ("train", "val", "test")
MOST_CLIENTS, MOST_BARS = 20, 30
"""Clients and classes of which a terminal is shown each; files have all of them."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """Who holds what.

    Args:
        data: The federation's data.
        partitioner: Who dealt it, in words.
        seed: Of the deal.
    """

    data: FederatedData
    partitioner: str
    seed: int

    def counts(self) -> npt.NDArray[np.int64]:
        """Return the samples of each client by split and class, [K, 3, C]."""
        data = self.data
        pools = (data.train, data.train, data.own_pool)
        rows = [
            [
                np.bincount(pool.labels[index], minlength=data.num_classes)
                for pool, index in zip(pools, (c.train, c.val, c.test), strict=True)
            ]
            for c in data.clients
        ]
        return np.array(rows, dtype=np.int64)

    def stats(self) -> PartitionStats:
        """Return the statistics of the training samples."""
        return PartitionStats(self.counts()[:, 0], self.data.repaired)

    @property
    def title(self) -> str:
        """Return what was dealt, by whom, to how many."""
        return (
            f"{self.data.name} · {self.partitioner} · {self.data.num_clients} clients · "
            f"seed {self.seed}"
        )

    def figure(self) -> Figure:
        """Return the report's picture of it."""
        who = f"{self.partitioner}, seed {self.seed}"
        figure = labels_figure(self.counts()[:, 0], f"{self.title}.", title=who)
        return replace(figure, title=f"{self.data.name}: {figure.title.lower()}")

    def numbers(self) -> Numbers:
        """Return a row for each client, split and class, those of no sample included."""
        names = self.data.class_names
        rows = [
            (client, SPLITS[split], label, names[label] if names else label, int(n))
            for (client, split, label), n in np.ndenumerate(self.counts())
        ]
        return Numbers(("client_id", "split", "label", "class", "samples"), tuple(rows))

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it; ``data_fingerprint`` is that of a run's run.json."""
        counts, stats = self.counts(), self.stats()
        clients = [
            {
                "client_id": client,
                **({"domain": self.data.domains[client]} if self.data.domains else {}),
                **{split: int(row[i].sum()) for i, split in enumerate(SPLITS)},
                "classes": int((row[0] > 0).sum()),
                "effective_classes": float(stats.effective_classes[client]),
                "labels": {split: row[i].tolist() for i, split in enumerate(SPLITS)},
            }
            for client, row in enumerate(counts)
        ]
        return {
            "dataset": self.data.name,
            "partitioner": self.partitioner,
            "seed": self.seed,
            "num_classes": self.data.num_classes,
            "class_names": list(self.data.class_names),
            "data_fingerprint": self.data.fingerprint,
            "public_samples": len(self.data.public),
            "balanced_test_samples": len(self.data.test),
            "summary": stats.summary(),
            "clients": clients,
        }

    def lines(self, width: int) -> Iterator[str]:
        """Yield it as text for a terminal of ``width`` columns."""
        yield from folded(self.title, width)
        yield ""
        yield from self._clients()
        yield ""
        yield "training samples of each class"
        names = list(self.data.class_names) or None
        yield from preview(self.counts()[:, 0], names, width).splitlines()[:-1]
        yield ""
        yield from aligned(self._summary(), width)

    def _clients(self) -> Iterator[str]:
        counts, stats = self.counts(), self.stats()
        bars = counts.shape[2] <= MOST_BARS
        head = "client  train   val   test  classes  effective"
        yield f"{head}  labels" if bars else head
        hidden = max(0, len(counts) - MOST_CLIENTS)
        for client, row in enumerate(counts):
            if hidden and client == MOST_CLIENTS // 2:
                yield f"   ...  ({hidden} more clients)"
            if hidden and MOST_CLIENTS // 2 <= client < MOST_CLIENTS // 2 + hidden:
                continue
            train, val, test = row.sum(axis=1)
            held, effective = (row[0] > 0).sum(), stats.effective_classes[client]
            line = f"{client:>6}  {train:>5}  {val:>4}  {test:>5}  {held:>7}  {effective:>9.1f}"
            yield f"{line}  {bar_row(row[0].tolist())}".rstrip() if bars else line

    def _summary(self) -> list[tuple[str, str]]:
        numbers, data = self.stats().summary(), self.data
        low, high = int(numbers["size_min"]), int(numbers["size_max"])
        held = self.counts()[:, 1].sum()
        sizes = f"{low:,} a client"
        if low < high:
            sizes = f"{low:,} to {high:,} a client, mean {numbers['size_mean']:,.1f}"
        rows = [
            (
                "training samples",
                f"{int(numbers['num_samples']):,}: {sizes}; {held:,} for validation",
            ),
            (
                "effective classes",
                f"{numbers['effective_classes_mean']:.1f} of {data.num_classes} a client, mean: "
                "exp of the entropy of its classes",
            ),
            (
                "mean distance",
                f"{numbers['mean_distance']:.2f} between two clients' classes: 0 the same, 1 none "
                "in common",
            ),
            ("public set", data.public.source),
            ("balanced test", f"{len(data.test):,} samples that no client trains on"),
        ]
        if data.repaired:
            moved = f"{data.repaired:,} samples, to give every client its min_samples"
            rows.insert(3, ("moved", moved))
        for name in dict.fromkeys(data.domains):
            theirs = [client for client, of in enumerate(data.domains) if of == name]
            rows.append(("domain", f"{name}: clients {theirs[0]} to {theirs[-1]}"))
        if any(client.transform is not None for client in data.clients):
            shifted = "every client sees its inputs through a transform of its own"
            rows.append(("inputs", f"{shifted}, which no label shows"))
        return rows
