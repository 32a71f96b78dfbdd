"""``features``: a hundred clients, a tenth of them a round, on frozen features, from the beginning.

The whole command with an empty cache: decoding, features, both arms, all tests. One thread, so its
seconds are the processor's, since the machine may be shared.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from unittest.mock import patch

from experiments.benchmarks.rows import Arguments, Row, row
from experiments.benchmarks.workload import describe_data, find_mnist
from experiments.run import main

CLIENTS, SHARE, ROUNDS, BAR = 100, 0.1, 50, 600.0


def measure(args: Arguments) -> list[Row]:
    """Return the processor's seconds of the run, scaled up from five rounds with ``--quick``."""
    mnist, rounds = find_mnist(args.mnist), 5 if args.quick else ROUNDS
    data = (
        ["dataset=mnist", f"dataset.path='{mnist}'"]
        if mnist
        else ["dataset=synthetic", "dataset.image_size=28", "dataset.num_train=60000"]
    )
    with tempfile.TemporaryDirectory(prefix="fedfuse-features-") as scratch:
        words = [*data, "features=random", f"num_clients={CLIENTS}", f"num_rounds={rounds}"]
        words += ["participation=uniform", f"participation.fraction={SHARE}"]
        words += [f"hydra.run.dir={scratch}/run"]
        begun, used = time.perf_counter(), time.process_time()
        with (
            patch.dict(os.environ, FEDFUSE_CACHE=f"{scratch}/cache"),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            code = main(words)
        wall, cpu = time.perf_counter() - begun, time.process_time() - used
    if code:
        raise RuntimeError(f"the run ended with {code}")
    note = (
        f"{describe_data(mnist)}, 512 features, perceptron, {SHARE:.0%} take part, local twin and "
        f"all tests included; one thread, wall {wall:.0f} s"
    )
    if args.quick:
        note += f"; from {rounds} rounds"
        cpu *= ROUNDS / rounds
    what = f"run of {ROUNDS} rounds, K={CLIENTS}, frozen features"
    return [row("features", "features_run", what, cpu, "s", bar=BAR, note=note)]
