"""``batched``: training many clients at once over training them one after the other.

Needs only torch and numpy, like the trainers themselves: on a machine with a GPU and nothing else
run ``python -m experiments.benchmarks.batched``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fedfuse.distill import KL
from fedfuse.local_loss import cross_entropy
from fedfuse.models.lenet import lenet5
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.moments import update_of
from fedfuse.train.padded import pad
from fedfuse.train.stacked import StackedModels
from fedfuse.train.trainer import LoopTrainer, Student, Trainer
from fedfuse.train.work import Work, schedule, steps_per_epoch

SHAPE, CLASSES, SAMPLES, PUBLIC, TEST = (1, 28, 28), 10, 500, 1000, 2000
BATCH, PUBLIC_BATCH, EVAL_BATCH = 32, 64, 250


def measure(args: Any) -> list[dict[str, Any]]:
    """Return how many times faster a round is in one batch than client by client."""
    gpu = torch.cuda.is_available()
    rows = [
        _row(
            key,
            what,
            _speedup(1000, torch.device("cuda"), args.repeats, patches=patches)[0] if gpu else None,
            50.0,
            "" if gpu else "no GPU here",
        )
        for key, what, patches in (
            ("batched_speedup", "client by client / batched, 1,000 clients, GPU", None),
            ("batched_speedup_grouped", "the same with grouped convolutions", False),
        )
    ]
    count = 5 if args.quick else 20
    for patches, name in ((False, "grouped"), (True, "patches")):
        ratio, apart = _speedup(count, torch.device("cpu"), args.repeats, patches=patches)
        note = f"one thread; largest difference of a logit {apart:.1e}"
        what = f"client by client / batched, {count} clients, CPU, {name}"
        rows.append(_row(f"batched_speedup_cpu_{name}", what, ratio, None, note))
    rows.append(_row("setup_us_client", "set-up of a phase, per client", setup(), None, ""))
    rows[-1] |= {"unit": "us", "higher": False, "note": "Python beside the operations, CPU"}
    counted = launches()
    note = "kernels of one training step for 20 clients; counted, whatever the device"
    what = "operations client by client / batched"
    rows.append(_row("launch_ratio", what, counted["loop"] / counted["batched"], None, note))
    return rows


class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the operations that would each be a kernel: all but views."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count ``func`` and call it."""
        self.total += not any(result.alias_info for result in func._schema.returns) or (
            func._schema.name[-1] == "_"
        )
        return func(*args, **(kwargs or {}))


def setup(count: int = 200, repeats: int = 5) -> float:
    """Return the microseconds per client that a training needs before its first operation.

    Once per phase and client whatever the device, so on a GPU it is what is left to Python.
    """
    students = _students(count, torch.device("cpu"))
    x, y = torch.zeros(SAMPLES, *SHAPE), torch.zeros(SAMPLES, dtype=torch.int64)
    works = [Work(x, y, cross_entropy, _plan(SAMPLES, BATCH, (0, i))) for i in range(count)]
    spent = []
    for _ in range(repeats + 1):  # the first builds matrices
        begin = time.process_time()
        StackedModels.of(students, training=True)
        update_of([student.optimizer for student in students])
        pad(works)
        spent.append(time.process_time() - begin)
    return 1e6 * statistics.median(spent[1:]) / count


def launches(count: int = 20) -> dict[str, int]:
    """Return the operations of one training step of ``count`` clients, per trainer."""
    found = {}
    x, y = torch.randn(BATCH, *SHAPE), torch.randint(0, CLASSES, (BATCH,))
    trainers: dict[str, Trainer] = {"loop": LoopTrainer(), "batched": BatchedTrainer()}
    for name, trainer in trainers.items():
        students = _students(count, torch.device("cpu"))
        totals = []
        for steps in (1, 1, 3):  # the first builds what the others find
            works = [
                Work(x, y, cross_entropy, schedule(BATCH, BATCH, steps, torch.Generator()))
                for _ in students
            ]
            with Count() as counter:  # type: ignore[no-untyped-call]
                trainer.fit(students, works)
            totals.append(counter.total)
        found[name] = (totals[2] - totals[1]) // 2
    return found


def _row(key: str, what: str, value: float | None, bar: float | None, note: str) -> dict[str, Any]:
    met = None if value is None or bar is None else value >= bar
    return {
        "benchmark": "batched", "key": key, "what": what, "value": value, "unit": "x",
        "bar": bar, "higher": True, "met": met, "note": note,
    }  # fmt: skip


def _speedup(
    count: int, device: torch.device, repeats: int, *, patches: bool | None
) -> tuple[float, float]:
    """Return the ratio of the medians of both trainers' rounds, and how far logits are apart."""
    sides: list[tuple[Trainer, list[Student]]] = [
        (LoopTrainer(), _students(count, device)),
        (BatchedTrainer(patches=patches), _students(count, device)),
    ]
    public = torch.randn(PUBLIC, *SHAPE, device=device)
    test = torch.randn(TEST, *SHAPE, device=device)
    inputs = torch.randn(count * SAMPLES, *SHAPE, device=device)
    labels = torch.randint(0, CLASSES, (count * SAMPLES,), device=device)
    seconds: list[list[float]] = [[], []]
    logits = [torch.empty(0)] * 2
    for round_ in range(repeats + 1):
        local = [
            Work(x, y, cross_entropy, _plan(SAMPLES, BATCH, (round_, client)))
            for client, (x, y) in enumerate(
                zip(torch.split(inputs, SAMPLES), torch.split(labels, SAMPLES), strict=True)
            )
        ]
        for side, (trainer, students) in enumerate(sides):
            _wait(device)
            begin = time.perf_counter()
            trainer.fit(students, local)
            shared = trainer.predict(students, public, EVAL_BATCH)
            trainer.predict(students, test, EVAL_BATCH)
            teacher = shared.softmax(2).mean(0)
            taught = [
                Work(public, teacher, KL(), _plan(PUBLIC, PUBLIC_BATCH, (round_, -1 - client)))
                for client in range(count)
            ]
            trainer.fit(students, taught)
            logits[side] = trainer.predict(students, test, EVAL_BATCH)
            _wait(device)
            if round_ > 0:  # the first builds matrices and chooses kernels
                seconds[side].append(time.perf_counter() - begin)
        if round_ == 0:
            apart = float((logits[0] - logits[1]).abs().max())
    medians = [sorted(values)[len(values) // 2] for values in seconds]
    return medians[0] / medians[1], apart


def _students(count: int, device: torch.device) -> list[Student]:
    students = []
    for client in range(count):
        torch.manual_seed(0)
        model = lenet5(SHAPE, CLASSES).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        students.append(Student(client, "lenet5", model, adam))
    return students


def _plan(size: int, batch: int, name: tuple[int, int]) -> Any:
    generator = torch.Generator().manual_seed(hash(name) % 2**31)
    return schedule(size, batch, steps_per_epoch(size, batch), generator)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    for found in measure(parser.parse_args()):
        print(found)
