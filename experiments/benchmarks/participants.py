"""``participants``: does a round of 50 clients cost the same, whether there are 100 or 20,000?"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from experiments.benchmarks.rows import Arguments, Row, in_turns, peak_bytes, row
from experiments.run import main
from server import loop

FEW, MANY, MOST, PART = 100, 20_000, 100_000, 50
SAMPLES, PUBLIC = 40, 200


def measure(args: Arguments) -> list[Row]:
    """Return what rounds, memory and folder cost at K = 20,000, against K = 100."""
    rounds = 4 if args.quick else 10
    sides: dict[str, Any] = in_turns(
        {str(clients): partial(_run, clients, rounds) for clients in (FEW, MANY)},
        1 if args.quick else args.repeats,
    )
    few, many = (sides[str(clients)] for clients in (FEW, MANY))
    wall, cpu = ([_of(runs, kind) for runs in (many, few)] for kind in ("wall", "cpu"))
    note = (
        f"{PART} take part of {MANY:,} and of {FEW}; perceptron, {SAMPLES} samples each, "
        f"evaluation.resting=sample, {rounds} rounds; "
        f"processor time {cpu[0] / cpu[1]:.2f} ({cpu[0]:.2f} s, {cpu[1]:.2f} s), "
        f"wall {wall[0]:.2f} s, {wall[1]:.2f} s"
    )
    rows = [
        row("participants", "participants_round_ratio", f"round, K={MANY:,} / K={FEW}",
            wall[0] / wall[1], "x", bar=1.5, note=note),
        row("participants", "participants_peak_mib", f"peak memory, K={MANY:,}",
            max(run["peak"] for run in many) / 2**20, "MiB", bar=1536,
            note=f"K={FEW}: {max(run['peak'] for run in few) / 2**20:.0f} MiB"),
        row("participants", "participants_folder_mb", f"run folder, K={MANY:,}, {rounds} rounds",
            many[-1]["folder"] / 1e6, "MB", bar=100,
            note=f"while it runs, with checkpoints, at most {many[-1]['largest'] / 1e6:.0f} MB; "
            f"K={FEW}: {few[-1]['folder'] / 1e6:.0f} and {few[-1]['largest'] / 1e6:.0f} MB"),
        row("participants", "participants_first_step", f"command to first training, K={MANY:,}",
            statistics.median(run["first"] for run in many), "s", bar=15,
            note=f"processor time {statistics.median(run['first_cpu'] for run in many):.1f} s; "
            f"K={FEW}: {statistics.median(run['first'] for run in few):.1f} s"),
    ]  # fmt: skip
    rows += _averaged(rounds)
    if not args.quick:
        most = _run(MOST, rounds)
        rows.append(
            row("participants", "participants_round_100k", f"round, K={MOST:,} / K={FEW}",
                _of([most], "wall") / wall[1], "x",
                note=f"first training after {most['first']:.0f} s, {most['peak'] / 2**20:.0f} MiB, "
                f"folder {most['folder'] / 1e6:.0f} MB, {most['total']:.0f} s in all")
        )  # fmt: skip
    return rows


def _averaged(rounds: int) -> list[Row]:
    """Return the same for a method whose every average is for all clients."""
    few, many = (_run(clients, rounds, "method=fedavg", "baseline=none") for clients in (FEW, MANY))
    wall, cpu = ([_of([run], kind) for run in (many, few)] for kind in ("wall", "cpu"))
    return [
        row("participants", "participants_averaged_ratio", f"round of FedAvg, K={MANY:,} / K={FEW}",
            cpu[0] / cpu[1], "x",
            note=f"processor time ({cpu[0]:.2f} s, {cpu[1]:.2f} s), wall {wall[0] / wall[1]:.2f}; "
            f"{PART} more are tested, and {PART} told twice, than of K={FEW}"),
        row("participants", "participants_averaged_peak_mib", f"its peak memory, K={MANY:,}",
            many["peak"] / 2**20, "MiB", bar=1536),
    ]  # fmt: skip


def _of(runs: list[dict[str, Any]], kind: str) -> float:
    """Return the median seconds of a round; each arm's first makes the models of all it asks."""
    return float(statistics.median(seconds for run in runs for seconds in run[kind]))


def _run(clients: int, rounds: int, *lines: str) -> dict[str, Any]:
    """Run once in a process of its own; return what it printed."""
    with tempfile.TemporaryDirectory(prefix="fedfuse-participants-") as scratch:
        command = [sys.executable, "-m", __name__, str(clients), str(rounds), f"{scratch}/run"]
        command += lines
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(clients: int, rounds: int, folder: str, *lines: str) -> None:
    """Run the command here, and print what it cost."""
    times: list[tuple[float, float]] = []
    sizes: list[int] = []
    real = loop.Clock

    def clock() -> loop.Clock:  # each round makes one as it begins
        times.append((time.time(), time.process_time()))
        sizes.append(_size(folder))
        return real()

    loop.Clock = clock  # type: ignore[misc,assignment]
    overrides = [
        "dataset=synthetic",
        f"dataset.num_train={clients * SAMPLES + 500}",
        f"public.size={PUBLIC}",
        f"num_clients={clients}",
        "partitioner=iid",
        "participation=uniform",
        f"participation.fraction={PART / clients}",
        "model=mlp",
        f"num_rounds={rounds}",
        "evaluation.resting=sample",
        "models=none",
        *lines,
        f"hydra.run.dir={folder}",
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(overrides)
    if code:
        sys.exit(code)
    begun, (first, first_cpu) = psutil.Process().create_time(), times[0]
    # An arm's first round makes the models of all it asks, and its last has no checkpoint.
    pairs = [
        pair
        for number, pair in enumerate(itertools.pairwise(times))
        if number % rounds not in (0, rounds - 1)
    ]
    result = {
        "wall": [later[0] - now[0] for now, later in pairs],
        "cpu": [later[1] - now[1] for now, later in pairs],
        "first": first - begun,
        "first_cpu": first_cpu,
        "peak": peak_bytes(),
        "folder": _size(folder),
        "largest": max(sizes),
        "total": time.time() - begun,
    }
    print(json.dumps(result))


def _size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


if __name__ == "__main__":
    child(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
