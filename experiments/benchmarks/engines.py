"""What the engines cost: overhead per client and round, two workers, start-up, memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from experiments.benchmarks.family import family, pss
from experiments.benchmarks.idle import idle_ray, idle_serial
from experiments.benchmarks.rows import Arguments, Row, median_ratio, row
from experiments.benchmarks.stopwatch import Stopwatch
from experiments.benchmarks.workload import configure, find_mnist, words

NAME = "engines"
TWO_WORKERS = {"num_clients": 20, "samples": 500, "public": 200, "test": 200}
MANY = {"num_clients": 1000, "samples": 100, "public": 200, "test": 200}


def measure(args: Arguments) -> list[Row]:
    """Return the rows of all engines."""
    return [*overhead(args), *two_workers(args), *deployment(args), *memory()]


def overhead(args: Arguments) -> list[Row]:
    """Return milliseconds per client and round, of clients that do nothing."""
    rounds = 4 if args.quick else 8
    sides: list[tuple[str, str, int, float | None, Callable[[], list[float]]]] = []
    for k in (100, 1000):
        sides += [
            (f"serial_{k}", f"serial, K={k}", k, None, partial(idle_serial, k, rounds)),
            (f"ray_{k}", f"ray, K={k}", k, 1.0, partial(idle_ray, k, 2, rounds, tuned=True)),
        ]
    sides.append(
        (
            "classic_100",
            "Flower's own backend, one node per client, K=100",
            100,
            None,
            partial(idle_ray, 100, 100, rounds, tuned=False),
        )
    )
    rows = []
    for key, words_, num_clients, bar, run in sides:
        # The first round starts workers, which import torch.
        value = 1000 * statistics.median(run()[1:]) / num_clients
        what = f"overhead per client and round: {words_}"
        note = "idle clients; [1000,10] logits up, teachers down"
        rows.append(row(NAME, f"overhead_{key}", what, value, "ms", bar=bar, note=note))
    return rows


def two_workers(args: Arguments) -> list[Row]:
    """Return the throughput of two workers over that of one process, and what each costs."""
    rounds, mnist = 3 if args.quick else 6, find_mnist(args.mnist)
    runs: dict[str, list[Run]] = {"serial": [], "ray": []}
    for _ in range(args.repeats):
        for engine, kept in runs.items():
            kept.append(whole_run(mnist, TWO_WORKERS, f"num_rounds={rounds}", f"engine={engine}"))
    seconds = {
        engine: [value for run in kept for value in run.rounds[1:]] for engine, kept in runs.items()
    }
    note = f"LeNet-5, {words(mnist)}, 20 clients x 500"
    cpu = {
        engine: [value for run in kept for value in run.cpu[1:]] for engine, kept in runs.items()
    }
    spent = median_ratio(cpu["ray"], cpu["serial"])
    ratio = median_ratio(seconds["serial"], seconds["ray"])
    what = "ray with two workers / serial, throughput"
    rows = [
        row(
            NAME,
            "two_workers",
            what,
            ratio,
            "x",
            bar=1.8,
            higher=True,
            note=f"{note}; processor time of all processes, ray / serial: {spent:.2f}",
        )
    ]
    for engine, kept in runs.items():
        around = min(run.wall - sum(run.rounds) for run in kept)
        rows.append(row(NAME, f"around_{engine}", f"start and end: {engine}", around, "s"))
        peak = min(run.peak for run in kept) / 2**20
        rows.append(row(NAME, f"peak_{engine}", f"memory: {engine}", peak, "MiB", note=note))
    return rows


def deployment(args: Arguments) -> list[Row]:
    """Return what a deployment of three SuperNodes on this machine takes."""
    mnist = find_mnist(args.mnist)
    lines = ("num_rounds=1", "engine=deployment", "engine.num_nodes=3")
    run = whole_run(mnist, TWO_WORKERS, *lines)
    note = f"LeNet-5, {words(mnist)}, 20 clients x 500 on 3 SuperNodes"
    around, phases = run.wall - sum(run.rounds), f"its one round {sum(run.rounds):.1f} s"
    return [
        row(NAME, "around_deployment", "start and end: deployment", around, "s", note=phases),
        row(NAME, "peak_deployment", "memory: deployment", run.peak / 2**20, "MiB", note=note),
    ]


def memory() -> list[Row]:
    """Return the peak memory of a thousand clients on Ray.

    MNIST's 60,000 digits do not hold 100 samples for each of them, so they are made up.
    """
    run = whole_run(None, MANY, "num_rounds=3", "engine=ray")
    note = f"LeNet-5, {words(None)} x {MANY['samples']}, 3 rounds, whole run {run.wall:.0f} s"
    return [
        row(NAME, "peak_1000", "memory: ray, K=1000", run.peak / 2**20, "MiB", bar=3072, note=note)
    ]


@dataclass(frozen=True, slots=True)
class Run:
    """What a whole run took.

    Args:
        wall: Seconds from start to end of its process.
        rounds: Seconds of each round.
        cpu: Processor seconds of all processes together in each round; of those that are still
            there at its end.
        peak: Bytes of all its processes together at their highest (proportional set size).
    """

    wall: float
    rounds: list[float]
    peak: int
    cpu: list[float]


def whole_run(mnist: Path | None, work: dict[str, int], *lines: str) -> Run:
    """Run once in a process of its own, and watch its memory."""
    cfg = configure(mnist, *lines, **work)
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.yaml"
        config.write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
        begun, peak = time.perf_counter(), 0
        command = [sys.executable, "-m", __name__, str(config), f"{scratch}/run"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
            while process.poll() is None:
                peak = max(peak, sum(map(pss, family(process.pid))))
                time.sleep(0.2)
        wall = time.perf_counter() - begun
        if process.returncode:
            raise RuntimeError(f"the run ended with exit code {process.returncode}")
        cpu = json.loads((Path(scratch) / "cpu.json").read_text(encoding="utf-8"))
        text = (Path(scratch) / "run" / "events.jsonl").read_text(encoding="utf-8")
    events: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    rounds = [sum(e["seconds"].values()) for e in events if e["event"] == "round"]
    return Run(wall, rounds, peak, cpu)


def child(config: str, folder: str) -> None:
    """Run one configuration: the child of :func:`whole_run`."""
    from experiments import launch
    from experiments.facts import facts
    from server.reporters.files import Files
    from server.reporters.folder import RunFolder
    from server.reporters.many import Many

    cfg = OmegaConf.load(config)
    assert isinstance(cfg, DictConfig)
    where = RunFolder(Path(folder))
    where.open(overrides=[], seed=cfg.seed, **facts())
    watch = Stopwatch()
    reporter = Many([Files(where), watch])
    try:
        launch.run(cfg, where, reporter)
    finally:
        reporter.close()
    spent = np.diff(watch.cpu_times).tolist()
    where.path.with_name("cpu.json").write_text(json.dumps(spent), encoding="utf-8")


if __name__ == "__main__":
    child(*sys.argv[1:])
