"""``own_time``: what a client and round costs beside training, where there are a thousand of them.

The model is a softmax regression that takes two steps a round, so what is left is fedfuse's own.
Processor time: the machine may be shared.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from clients.in_arm import InArm
from clients.training.evaluation import Evaluation
from clients.training.work_plan import WorkPlan
from experiments.benchmarks.rows import Arguments, Row, row
from experiments.run import main
from fedfuse.train.batched import BatchedTrainer
from server import loop
from server.app import Checkpointer
from server.reporters.many import Many

WHOLE = "whole"
CLIENTS, SAMPLES, ROUNDS, BAR = 1_000, 40, 4, 1.0
TRAINING = ("steps", "predictions", "fusion")
"""Parts that are arithmetic, and not counted as fedfuse's own."""
PARTS: tuple[tuple[str, Any, str], ...] = (
    ("steps", BatchedTrainer, "fit"),
    ("predictions", BatchedTrainer, "predict"),
    ("predictions", BatchedTrainer, "predict_each"),
    ("fusion", loop, "fuse"),
    ("work written down", WorkPlan, "private"),
    ("work written down", WorkPlan, "distillation"),
    ("tests", Evaluation, "__call__"),
    ("clients at hand", InArm, "student"),
    ("checkpoint", Checkpointer, "keep"),
    ("records", loop, "record"),
    ("folder", Many, "round_done"),
)
"""What is told apart: its name, and the function whose time it is, less what it calls of these."""


def measure(args: Arguments) -> list[Row]:
    """Return the milliseconds of a client and round, and of what they consist."""
    clients = CLIENTS // 4 if args.quick else CLIENTS
    spent: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="fedfuse-own-") as scratch, timed(spent):
        words = [
            "dataset=synthetic", f"dataset.num_train={clients * SAMPLES + 400}",
            f"num_clients={clients}", "partitioner=iid", "model=mlp", "model.depth=0",
            f"num_rounds={ROUNDS}", "warmup_rounds=0", "baseline=none", "trainer=batched",
            "models=none", "client.batch_size=20", "client.distill_batch_size=100",
            "public.size=200", "evaluation.test_samples=200", f"hydra.run.dir={scratch}/run",
        ]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
    if code:
        raise RuntimeError(f"the run ended with {code}")
    # The first round makes the models and the last has no checkpoint.
    rounds = spent[1:-1]
    each = {
        name: 1000 * sum(part.get(name, 0.0) for part in rounds) / len(rounds) / clients
        for name in dict.fromkeys([*(name for name, _, _ in PARTS), WHOLE])
    }
    rest = each.pop(WHOLE) - sum(each.values())
    each["messages and the rest"] = rest
    own = sum(value for name, value in each.items() if name not in TRAINING)
    parts = ", ".join(f"{name} {value:.3f}" for name, value in each.items())
    note = f"processor time; softmax regression, checkpoint every round, one thread: {parts}"
    what = f"a client and round beside training, K={clients:,}"
    return [row("own_time", "own_time_ms", what, own, "ms", bar=BAR, note=note)]


@contextlib.contextmanager
def timed(spent: list[dict[str, float]]) -> Iterator[None]:
    """Note by round how long each of the parts takes, less what it calls of the others."""
    inside: list[float] = []
    now, ended = defaultdict[str, float](float), time.process_time()

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal ended
            inside.append(0.0)
            begun = time.process_time()
            try:
                return real(*args, **kwargs)
            finally:
                done = time.process_time()
                now[name] += done - begun - inside.pop()
                if inside:
                    inside[-1] += done - begun
                if name == "checkpoint":  # comes last in a round
                    now[WHOLE], ended = done - ended, done
                    spent.append(dict(now))
                    now.clear()

        return call

    with contextlib.ExitStack() as stack:
        for name, owner, attribute in PARTS:
            function = watched(name, getattr(owner, attribute))
            stack.enter_context(patch.object(owner, attribute, function))
        yield
