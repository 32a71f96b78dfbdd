"""``pack``: the clients of several runs as one batch over the same runs one after the other.

Each run is batched on both sides; what is compared is packing (``engine.pack=true``) alone. Needs
only torch and numpy: ``python -m experiments.benchmarks.pack``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.batched import BATCH, CLASSES, EVAL_BATCH, PUBLIC_BATCH, SHAPE, Count
from experiments.benchmarks.rows import Arguments, Row, row
from fedfuse.distill import KL
from fedfuse.local_loss import cross_entropy
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.joint import Call, Fit, Joint, Predict
from fedfuse.train.trainer import LoopTrainer, Student, Trainer
from fedfuse.train.work import Work, schedule, steps_per_epoch


@dataclass(frozen=True, slots=True)
class Size:
    """How much each of several runs has to do.

    Args:
        runs: How many runs; of two each one has the same public and test samples.
        clients: Clients per run.
        samples: Private samples per client.
        public: Public samples.
        test: Test samples.
        model: Makes a client's model of the inputs' shape and the number of classes.
        by_loop: Whether runs one after the other train client by client, and not batched.
    """

    runs: int
    clients: int
    samples: int = 500
    public: int = 1000
    test: int = 2000
    model: Callable[[tuple[int, ...], int], nn.Module] = lenet5
    by_loop: bool = False


@dataclass(slots=True)
class Runs:
    """Several runs of a sweep and their data, on a device."""

    size: Size
    device: torch.device
    joint: Joint = field(default_factory=Joint)
    batched: BatchedTrainer = field(default_factory=BatchedTrainer)
    loop: LoopTrainer = field(default_factory=LoopTrainer)
    trainer: Trainer = field(init=False)
    students: list[list[Student]] = field(init=False)
    inputs: Tensor = field(init=False)
    labels: Tensor = field(init=False)
    pools: list[tuple[Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        size, draw = self.size, torch.Generator(self.device).manual_seed(0)
        self.students = [
            [self._student(run, client) for client in range(size.clients)]
            for run in range(size.runs)
        ]
        shape = (size.runs, size.clients * size.samples)
        self.inputs = torch.randn(*shape, *SHAPE, generator=draw, device=self.device)
        self.labels = torch.randint(CLASSES, shape, generator=draw, device=self.device)
        seeds = [
            torch.randn(size.public + size.test, *SHAPE, generator=draw, device=self.device)
            for _ in range(-(-size.runs // 2))
        ]
        self.pools = [
            (both[: size.public], both[size.public :])
            for both in (seeds[run // 2] for run in range(size.runs))
        ]

    def round(self, number: int, *, packed: bool) -> None:
        """Train, predict, test, distil and test again: all runs at once, or one after the other."""
        everyone = list(range(self.size.runs))
        self.trainer = self.loop if self.size.by_loop and not packed else self.batched
        for runs in [everyone] if packed else [[run] for run in everyone]:
            self._answer([self._fit(run, self._local(run, number)) for run in runs])
            shared = self._answer([self._predict(run, 0) for run in runs])
            self._answer([self._predict(run, 1) for run in runs])
            taught = [
                self._fit(run, self._taught(run, number, logits.softmax(2).mean(0)))
                for run, logits in zip(runs, shared, strict=True)
            ]
            self._answer(taught)
            self._answer([self._predict(run, 1) for run in runs])
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _answer(self, calls: Sequence[Call]) -> list[Any]:
        outcomes = self.joint(calls)
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return [outcome.value for outcome in outcomes]

    def _student(self, run: int, client: int) -> Student:
        torch.manual_seed(run)
        model = self.size.model(SHAPE, CLASSES).to(self.device)
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        return Student(client, "model", model, adam)

    def _fit(self, run: int, works: list[Work]) -> Fit:
        return Fit(run, "model", self.trainer, self.students[run], works)

    def _predict(self, run: int, pool: int) -> Predict:
        inputs = self.pools[run][pool]
        return Predict(run, "model", self.trainer, self.students[run], inputs, EVAL_BATCH)

    def _local(self, run: int, number: int) -> list[Work]:
        size = self.size.samples
        own = zip(
            torch.split(self.inputs[run], size), torch.split(self.labels[run], size), strict=True
        )
        return [
            Work(x, y, cross_entropy, _plan(size, BATCH, number, run, client))
            for client, (x, y) in enumerate(own)
        ]

    def _taught(self, run: int, number: int, teacher: Tensor) -> list[Work]:
        size, public = self.size.public, self.pools[run][0]
        return [
            Work(public, teacher, KL(), _plan(size, PUBLIC_BATCH, number, run, ~client))
            for client in range(self.size.clients)
        ]


def measure(args: Arguments) -> list[Row]:
    """Return how many launches and how much time packing saves."""
    few = Size(runs=8, clients=2, samples=BATCH, public=BATCH, test=BATCH)
    counted = operations(few)
    note = (
        f"{counted['apart']:,} and {counted['packed']:,} operations, counted on any device; "
        f"LeNet, a step per phase"
    )
    what = f"operations of a round, {few.runs} runs one by one / packed"
    ratio = counted["apart"] / counted["packed"]
    rows = [row("pack", "pack_launch_ratio", what, ratio, "x", higher=True, note=note)]
    gpu = torch.cuda.is_available()
    gained = speedup(Size(50, 20), torch.device("cuda"), args.repeats) if gpu else None
    what = "runs one by one / packed, 50 runs x 20 clients, GPU"
    note = "no GPU here" if gained is None else "each run batched on both sides"
    rows.append(row("pack", "pack_speedup", what, gained, "x", higher=True, note=note))
    size = Size(4, 2, 100, 200, 200) if args.quick else Size(4, 5)
    ratio = speedup(size, torch.device("cpu"), args.repeats)
    what = f"the same, {size.runs} runs x {size.clients} clients, CPU"
    note = "one thread; nothing to win where launches are cheap"
    rows.append(row("pack", "pack_speedup_cpu", what, ratio, "x", higher=True, note=note))
    runs = 9 if args.quick else 81
    size = Size(runs, 10, 80, 300, 300, model=mlp, by_loop=True)
    ratio = speedup(size, torch.device("cpu"), args.repeats)
    what = f"a map's training one by one / packed, {runs} runs x 10 MLPs, CPU"
    note = "one thread; client by client against one batch, see docs/performance.md"
    return [*rows, row("pack", "pack_map_mlp", what, ratio, "x", bar=3, higher=True, note=note)]


def operations(size: Size) -> dict[str, int]:
    """Return the operations of one round of all runs, one after the other and packed."""
    found = {}
    for name in ("apart", "packed"):
        runs = Runs(size, torch.device("cpu"))
        runs.round(0, packed=name == "packed")  # builds what the next one finds
        with Count() as counter:  # type: ignore[no-untyped-call]
            runs.round(1, packed=name == "packed")
        found[name] = counter.total
    return found


def speedup(size: Size, device: torch.device, repeats: int) -> float:
    """Return how many times faster packed runs are, medians of rounds after the first."""
    sides = {name: Runs(size, device) for name in ("apart", "packed")}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeats + 1):
        for name, runs in sides.items():
            begin = time.perf_counter()
            runs.round(number, packed=name == "packed")
            if number > 0:  # the first builds matrices and chooses kernels
                seconds[name].append(time.perf_counter() - begin)
    return statistics.median(seconds["apart"]) / statistics.median(seconds["packed"])


def _plan(size: int, batch: int, *name: int) -> Any:
    generator = torch.Generator().manual_seed(hash(name) % 2**31)
    return schedule(size, batch, steps_per_epoch(size, batch), generator)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(namespace=Arguments())
    for found in measure(given):
        print(found)
