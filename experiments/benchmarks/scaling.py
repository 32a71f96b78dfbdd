"""``scaling``: time and memory at 10 to 1,000 clients, each size in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from experiments.benchmarks import workload
from experiments.benchmarks.rows import Arguments, Row, peak_bytes, row

SAMPLES, PUBLIC, TEST = 50, 200, 200
GROWTH_CLIENTS, GROWTH_ROUNDS = 20, 12


def measure(args: Arguments) -> list[Row]:
    """Return seconds per client and round, peak memory, and what further rounds add to it."""
    rows = []
    for num_clients in (10, 100) if args.quick else (10, 100, 1000):
        found = in_process(num_clients, 3, args.mnist)
        note = f"LeNet-5, {SAMPLES} samples each, {PUBLIC} public, {TEST} test"
        rows += [
            row("scaling", f"ms_client_round_{num_clients}",
                f"client and round, K={num_clients:,}",
                1000 * found["seconds"][-1] / num_clients, "ms", note=note),
            row("scaling", f"peak_mib_{num_clients}", f"peak memory, K={num_clients:,}",
                max(found["peak"]), "MiB"),
        ]  # fmt: skip
    peaks = in_process(GROWTH_CLIENTS, GROWTH_ROUNDS, args.mnist)["peak"]
    half = GROWTH_ROUNDS // 2
    note = f"peak after round {GROWTH_ROUNDS} less that after round {half}"
    rows.append(
        row("scaling", "growth_mib_round", "memory added by a round",
            (peaks[-1] - peaks[half - 1]) / (GROWTH_ROUNDS - half), "MiB", bar=0.5, note=note)
    )  # fmt: skip
    return rows


def in_process(num_clients: int, num_rounds: int, mnist: Path | None) -> dict[str, list[float]]:
    """Return wall and processor seconds and the peak MiB of each round, in a process of its own."""
    given = [] if mnist is None else [str(mnist)]
    command = [sys.executable, "-m", __name__, str(num_clients), str(num_rounds), *given]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run one size, and print what each round cost."""
    import torch

    from experiments.benchmarks.stopwatch import Stopwatch, run

    given = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    cfg = workload.configure(
        workload.find_mnist(given),
        f"num_rounds={sys.argv[2]}",
        "client.device=cpu",
        "trainer=loop",
        num_clients=int(sys.argv[1]),
        samples=SAMPLES,
        public=PUBLIC,
        test=TEST,
    )
    torch.set_num_threads(cfg.client.threads)
    peaks: list[float] = []
    watch = Stopwatch(lambda: peaks.append(peak_bytes() / 2**20))
    run(cfg, watch)
    print(json.dumps({"seconds": watch.wall, "cpu": watch.cpu, "peak": peaks}))


if __name__ == "__main__":
    main()
