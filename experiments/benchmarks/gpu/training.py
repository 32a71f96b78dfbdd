"""Clients per second: rounds of many small models in one batch, and one after the other.

A round is local training (one epoch of 450 private samples in batches of 32), predictions on 1,000
public samples, distillation of their mean (one epoch in batches of 64), and a test on 2,050 samples
after each of the two: what a round of ``method=mean`` computes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from experiments.benchmarks import bare
from experiments.benchmarks.rows import Row, row
from fedfuse.distill import KL
from fedfuse.local_loss import cross_entropy
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.resnet import resnet8
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.precision import Precision
from fedfuse.train.trainer import LoopTrainer, Student, Trainer
from fedfuse.train.work import Schedule, Work, schedule, steps_per_epoch

CLASSES, BATCH, PUBLIC_BATCH, EVAL_BATCH = 10, 32, 64, 250
GRAY, COLOUR = (1, 28, 28), (3, 32, 32)

LENET_GOAL, SPEEDUP_GOAL = 2_000.0, 50.0
"""Client-rounds a second, and how many times one by one; the floor is about 9,000 a second."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a round computes.

    Args:
        model: Input shape and number of classes to a model.
        shape: Of one input.
        private: Private samples a client trains on.
        public: Public samples.
        test: Test samples.
    """

    model: Callable[[tuple[int, int, int], int], nn.Module]
    shape: tuple[int, int, int]
    private: int = 450
    public: int = 1_000
    test: int = 2_050

    def tiny(self) -> Load:
        """Return as little as shows that it works."""
        return Load(self.model, self.shape, private=8, public=8, test=8)


LENET = Load(lenet5, GRAY)
MLP = Load(mlp, GRAY)
RESNET = Load(resnet8, COLOUR)


class Phases:
    """Seconds since the last call, with what the device still had to do.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        wait(device)
        self.begin = time.perf_counter()

    def __call__(self, name: str) -> tuple[str, float]:
        """Return the name of the phase that ends here, and its seconds."""
        wait(self.device)
        begin, self.begin = self.begin, time.perf_counter()
        return name, self.begin - begin


class Rounds:
    """A federation whose rounds are timed."""

    def __init__(
        self,
        load: Load,
        clients: int,
        trainer: Trainer,
        device: torch.device,
        *,
        channels_last: bool = False,
    ) -> None:
        self.load, self.clients, self.trainer, self.device = load, clients, trainer, device
        layout = torch.channels_last if channels_last else torch.contiguous_format
        draw = torch.Generator(device).manual_seed(0)
        images = partial(torch.randn, generator=draw, device=device)
        self.inputs = images(clients * load.private, *load.shape)
        self.labels = torch.randint(
            CLASSES, (clients * load.private,), generator=draw, device=device
        )
        self.public, self.test = images(load.public, *load.shape), images(load.test, *load.shape)
        self.students = []
        self.phases: dict[str, float] = {}
        for client in range(clients):
            torch.manual_seed(client)
            model = load.model(load.shape, CLASSES).to(device, memory_format=layout)  # type: ignore[call-overload]
            adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
            self.students.append(Student(client, "net", model, adam))
        self.done = 0

    def round(self) -> float:
        """Do one round and return the seconds that it took."""
        self.phases = dict(self._round())
        return sum(self.phases.values())

    def _round(self) -> Iterator[tuple[str, float]]:
        """Do one round; yield what each phase is called and its seconds."""
        load = self.load
        own = zip(self.inputs.split(load.private), self.labels.split(load.private), strict=True)  # type: ignore[no-untyped-call]
        local = [
            Work(x, y, cross_entropy, self._plan(load.private, BATCH, client))
            for client, (x, y) in enumerate(own)
        ]
        orders = [self._plan(load.public, PUBLIC_BATCH, ~client) for client in range(self.clients)]
        timed = Phases(self.device)
        self.trainer.fit(self.students, local)
        yield timed("local training")
        teacher = self._ask(self.public).softmax(2).mean(0)
        yield timed("predictions and their mean")
        self._ask(self.test)
        yield timed("test")
        self.trainer.fit(self.students, [Work(self.public, teacher, KL(), o) for o in orders])
        yield timed("distillation")
        self._ask(self.test)
        yield timed("second test")
        self.done += 1

    def _ask(self, inputs: Tensor) -> Tensor:
        return self.trainer.predict(self.students, inputs, EVAL_BATCH)

    def _plan(self, size: int, batch: int, client: int) -> Schedule:
        generator = torch.Generator().manual_seed(hash((self.done, client)) % 2**31)
        return schedule(size, batch, steps_per_epoch(size, batch), generator)


def lenet(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:
    """Yield client-rounds a second in one batch, one by one and in a bare loop."""
    load, many, few = _sizes(LENET, 1_000, 20, tiny=tiny)
    goal, speedup = (None, None) if tiny else (LENET_GOAL, SPEEDUP_GOAL)
    rate = yield from _rate("lenet", load, many, BatchedTrainer(), device, repeats, goal=goal)
    launched = BatchedTrainer(graphs=False)
    yield from _rate("lenet_without_graphs", load, many, launched, device, repeats)
    loop = yield from _rate("lenet_loop", load, few, LoopTrainer(), device, repeats)
    if rate and loop:
        what = "  batched / one by one"
        yield row(
            "gpu", "lenet_speedup", what, rate / loop, "x", bar=speedup, higher=True,
            note="client-rounds a second",
        )  # fmt: skip
    alone = _bare(load, few, device, repeats)
    what = f"  bare loop, {few} clients with fused Adam"
    yield row("gpu", "lenet_bare", what, alone, "client-rounds/s", higher=True)
    if rate:
        yield row("gpu", "lenet_over_bare", "  batched / bare loop", rate / alone, "x", higher=True)


def lenet_grouped(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:
    """Yield the same in bf16, and with grouped convolutions instead of matrix products."""
    load, many, _ = _sizes(LENET, 1_000, 20, tiny=tiny)
    half = BatchedTrainer(precision=Precision.BF16)
    yield from _rate("lenet_bf16", load, many, half, device, repeats)
    grouped = BatchedTrainer(patches=False)
    yield from _rate("lenet_grouped", load, many, grouped, device, repeats)


def mlps(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:
    """Yield client-rounds a second of perceptrons."""
    load, many, few = _sizes(MLP, 1_000, 20, tiny=tiny)
    yield from _rate("mlp", load, many, BatchedTrainer(), device, repeats)
    yield from _rate("mlp_loop", load, few, LoopTrainer(), device, repeats)


def resnets(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:
    """Yield client-rounds a second of ResNet-8 on inputs of CIFAR's shape, in fp32 and bf16."""
    load, many, few = _sizes(RESNET, 100, 5, tiny=tiny)
    for precision in Precision:
        trainer = BatchedTrainer(precision=precision)
        yield from _rate(f"resnet8_{precision}", load, many, trainer, device, repeats)
    half = LoopTrainer(precision=Precision.BF16)
    yield from _rate("resnet8_loop_bf16", load, few, half, device, repeats, channels_last=True)


def profile(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:  # noqa: ARG001
    """Yield where a round of LeNets spends its time: by phase, idle, and by kernel."""
    load, many, _ = _sizes(LENET, 1_000, 20, tiny=tiny)
    rounds = Rounds(load, many, BatchedTrainer(), device)
    rounds.round()
    whole = rounds.round()
    for phase, seconds in rounds.phases.items():
        yield row("gpu", f"phase_{phase.replace(' ', '_')}", f"  {phase}", seconds, "s")
    yield from kernels("lenet", rounds.round, device, whole)


def kernels(
    key: str, work: Callable[[], object], device: torch.device, whole: float
) -> Iterator[Row]:
    """Yield which share of ``whole`` seconds the kernels of some work run, and each one's of that.

    Args:
        key: What the rows' keys begin with.
        work: What launches them.
        device: Where.
        whole: Seconds that it takes while nobody looks.
    """
    kinds, spent = [torch.profiler.ProfilerActivity.CPU], "self_cpu_time_total"
    if device.type == "cuda":
        kinds, spent = [torch.profiler.ProfilerActivity.CUDA], "self_device_time_total"
    with torch.profiler.profile(activities=kinds) as seen:
        work()
        wait(device)
    # An operation's time on the device is its kernels' once more.
    events = [
        event for event in seen.key_averages() if event.device_type.name.lower() == device.type
    ]
    longest = sorted(events, key=lambda event: -getattr(event, spent))
    total = sum(getattr(event, spent) for event in longest)
    note = f"of {whole:.3f} s; the rest waits for what launches kernels"
    yield row("gpu", f"{key}_busy", "  kernels' share of it", total / 1e6 / whole, "", note=note)
    for place, event in enumerate(longest[:15]):
        share, name = getattr(event, spent) / max(1, total), event.key[:90]
        note = f"{event.count} calls"
        yield row("gpu", f"{key}_kernel_{place}", f"  share of {name}", share, "", note=note)


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _sizes(load: Load, many: int, few: int, *, tiny: bool) -> tuple[Load, int, int]:
    return (load.tiny(), 3, 2) if tiny else (load, many, few)


def _rate(
    key: str,
    load: Load,
    clients: int,
    trainer: Trainer,
    device: torch.device,
    repeats: int,
    *,
    goal: float | None = None,
    channels_last: bool = False,
) -> Generator[Row, None, float]:
    """Yield a row, and return client-rounds a second: the median of rounds after a first one."""
    rounds = Rounds(load, clients, trainer, device, channels_last=channels_last)
    first = rounds.round()  # builds matrices and chooses kernels
    seconds = [rounds.round() for _ in range(repeats)]
    rate = clients / statistics.median(seconds)
    note = f"first round {first:.2f} s, then {min(seconds):.3f} to {max(seconds):.3f} s"
    if device.type == "cuda":
        note += f"; peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB"
        torch.cuda.reset_peak_memory_stats(device)
    what = f"{key.replace('_', ' ')}, {clients:,} clients"
    yield row("gpu", key, what, rate, "client-rounds/s", bar=goal, higher=True, note=note)
    return rate


def _bare(load: Load, clients: int, device: torch.device, repeats: int) -> float:
    """Return client-rounds a second of a plain PyTorch loop over the same work."""
    rounds = Rounds(load, clients, LoopTrainer(), device)
    empty, none = rounds.test[:1], torch.zeros(1, dtype=torch.int64, device=device)
    count = repeats + 1
    made = [
        bare.Client(
            model=student.model,
            inputs=x,
            labels=y,
            val_inputs=empty,
            val_labels=none,
            own_test=none,
            beside_inputs=empty,
            beside_labels=none,
            private_batches=[_batches(load.private, BATCH, device) for _ in range(count)],
            public_batches=[_batches(load.public, PUBLIC_BATCH, device) for _ in range(count)],
        )
        for student, x, y in zip(
            rounds.students,
            rounds.inputs.split(load.private),  # type: ignore[no-untyped-call]
            rounds.labels.split(load.private),  # type: ignore[no-untyped-call]
            strict=True,
        )
    ]
    answers = torch.zeros(load.test, dtype=torch.int64, device=device)
    shared = bare.Shared(rounds.public, rounds.test, answers, EVAL_BATCH)
    seconds = bare.run(made, shared, count, tuned=True).seconds[1:]
    return clients / statistics.median(seconds)


def _batches(size: int, batch: int, device: torch.device) -> list[Tensor]:
    return list(torch.randperm(size).to(device).split(batch))  # type: ignore[no-untyped-call]
