"""What the engines cost: overhead per client and round, two workers, start-up, memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

from experiments.benchmarks.idle import idle_ray, idle_serial
from experiments.benchmarks.rows import Arguments, Row, median_ratio, row
from experiments.benchmarks.turns import in_rounds
from experiments.benchmarks.whole import whole_run
from experiments.benchmarks.workload import configure, describe_data, find_mnist

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
    turns, mnist = (4 if args.quick else 8) * args.repeats, find_mnist(args.mnist)
    serial, ray = (
        configure(mnist, f"num_rounds={2 * turns + 4}", f"engine={engine}", **TWO_WORKERS)
        for engine in ("serial", "ray")
    )
    took = in_rounds(
        {"one": serial, "other": serial, "ray": ray},
        {"serial": ("one",), "both": ("one", "other"), "ray": ("ray",)},
        turns,
    )
    wall = {side: [turn.wall for turn in its] for side, its in took.items()}
    cpu = {side: [turn.cpu for turn in its] for side, its in took.items()}
    note = f"LeNet-5, {describe_data(mnist)}, 20 clients x 500"
    spent = median_ratio(cpu["ray"], cpu["serial"])
    ceiling = 2 * median_ratio(wall["serial"], wall["both"])
    rows = [
        row(
            NAME,
            "two_workers",
            "ray with two workers / serial, throughput",
            median_ratio(wall["serial"], wall["ray"]),
            "x",
            bar=1.8,
            higher=True,
            note=f"{note}; {turns} rounds in turns; processor time of all processes {spent:.2f}",
        ),
        row(
            NAME,
            "two_runs",
            "two serial runs at once / one, throughput",
            ceiling,
            "x",
            note="what two of these cores can do; "
            f"processor time {median_ratio(cpu['both'], cpu['serial']):.2f}",
        ),
    ]
    for engine in ("serial", "ray"):
        run = whole_run(mnist, TWO_WORKERS, "num_rounds=2", f"engine={engine}")
        around = run.wall - sum(run.rounds)
        rows.append(row(NAME, f"around_{engine}", f"start and end: {engine}", around, "s"))
        peak = run.peak / 2**20
        rows.append(row(NAME, f"peak_{engine}", f"memory: {engine}", peak, "MiB", note=note))
    return rows


def deployment(args: Arguments) -> list[Row]:
    """Return what a deployment of three SuperNodes on this machine takes."""
    mnist = find_mnist(args.mnist)
    lines = ("num_rounds=1", "engine=deployment", "engine.num_nodes=3")
    run = whole_run(mnist, TWO_WORKERS, *lines)
    note = f"LeNet-5, {describe_data(mnist)}, 20 clients x 500 on 3 SuperNodes"
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
    note = (
        f"LeNet-5, {describe_data(None)} x {MANY['samples']}, 3 rounds, whole run {run.wall:.0f} s"
    )
    return [
        row(NAME, "peak_1000", "memory: ray, K=1000", run.peak / 2**20, "MiB", bar=3072, note=note)
    ]
