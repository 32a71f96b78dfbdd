"""``round``: whole rounds of fedfuse over the bare loop that does the same work."""

from __future__ import annotations

import importlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from clients.training.evaluation import in_test
from experiments.assembly.parts import build_parts
from experiments.benchmarks import bare, two_processes, workload
from experiments.benchmarks.rows import Arguments, Row, row
from experiments.benchmarks.stopwatch import Stopwatch, run
from fedfuse.data.tensors import gather, to_inputs
from fedfuse.models.plan import build_checked
from fedfuse.rng import Streams
from fedfuse.train.work import Schedule, schedule, steps_per_epoch
from fedfuse.types import FederatedData

CLIENTS, SAMPLES, PUBLIC, TEST = 20, 500, 1000, 2000
WARM = 1
"""Rounds at the start that are not counted: models are built, kernels chosen, workers started."""
BUNDLE = ("client.private_weight=1",)
"""What bundles are timed with: labels are learned in distillation, too."""
NEAR = 0.02
"""How far the mean accuracies of two sides that did the same work may be apart by rounding."""


def measure(args: Arguments) -> list[Row]:
    """Return the ratios of fedfuse to the bare loop, in one process and in two, and bf16's."""
    mnist = workload.find_mnist(args.mnist)
    num_rounds = WARM + (1 if args.quick else 2)
    lines = [f"num_rounds={num_rounds}", "client.device=cpu", "trainer=loop"]
    sizes = {"num_clients": CLIENTS, "samples": SAMPLES, "public": PUBLIC, "test": TEST}
    cfg = workload.configure(mnist, *lines, **sizes)
    torch.set_num_threads(cfg.client.threads)
    parts = build_parts(cfg)
    clients, shared = bare_task(parts.data, parts.models, cfg)

    sides: dict[str, Any] = {
        "turns": lambda: by_rounds(cfg, clients, shared),
        "bf16": lambda: ours(OmegaConf.merge(cfg, {"client": {"precision": "bf16"}})),
        "bare_two": lambda: two_processes.run(clients, shared, num_rounds),
    }
    for name in ("knfu", "knfu_adjusted"):
        plan = workload.configure(mnist, *lines, *BUNDLE, f"method={name}", **sizes)
        sides[name] = partial(ours, plan)
    if args.quick:
        del sides["bf16"]  # without instructions for it a round takes ten times as long
    if importlib.util.find_spec("ray") is not None:
        two = {"engine": {"name": "ray", "num_nodes": 2, "cpus_per_node": 1, "gpus_per_node": 0}}
        plan = workload.configure(mnist, *lines, "engine=ray", "engine.num_nodes=2", **sizes)
        sides["fedfuse_two"] = lambda: ours(OmegaConf.merge(plan, two))
    found: dict[str, list[bare.Result]] = defaultdict(list)
    for repeat in range(args.repeats):
        order = list(sides) if repeat % 2 == 0 else list(reversed(sides))
        for name in order:
            # Once is enough for bf16, and where it is slow more than enough.
            if name != "bf16" or not found[name]:
                result = sides[name]()
                for side, its in (result if name == "turns" else {name: result}).items():
                    found[side].append(its)
    accuracy = {name: results[0].accuracy for name, results in found.items()}
    for name, value in accuracy.items():
        if abs(value - accuracy["bare"]) > NEAR and name not in ("bf16", "knfu", "knfu_adjusted"):
            raise AssertionError(f"{name} reached {value}, the bare loop {accuracy['bare']}")
    wall = {
        name: statistics.median(s for result in results for s in result.seconds[WARM:])
        for name, results in found.items()
    }
    cpu = {
        name: statistics.median(s for result in results for s in result.cpu_seconds[WARM:])
        for name, results in found.items()
    }
    return _rows(wall, cpu, accuracy, workload.describe_data(mnist))


def _rows(
    wall: dict[str, float], cpu: dict[str, float], accuracy: dict[str, float], data: str
) -> list[Row]:
    def ratio(top: str, bottom: str) -> str:
        return f"processor time {cpu[top] / cpu[bottom]:.3f}"

    work = f"LeNet-5, {data}, {CLIENTS} clients x {SAMPLES}"
    same = f"accuracy {accuracy['fedfuse']:.4f}, bare {accuracy['bare']:.4f}"
    half = wall["bf16"] / wall["fedfuse"] if "bf16" in wall else None
    pair = wall["fedfuse_two"] / wall["bare_two"] if "fedfuse_two" in wall else None
    return [
        row("round", "overhead_ratio", "round / bare loop", wall["fedfuse"] / wall["bare"],
            "x", bar=1.0, note=f"{ratio('fedfuse', 'bare')}; {work}; {same}"),
        row("round", "overhead_ratio_tuned", "round / bare loop, fused Adam and channels_last",
            cpu["fedfuse"] / cpu["tuned"], "x", bar=1.0,
            note=f"of processor time; wall time {wall['fedfuse'] / wall['tuned']:.3f}"),
        row("round", "overhead_ratio_two", "round / bare loop, 2 processes", pair, "x", bar=1.1,
            note=f"{ratio('fedfuse_two', 'bare_two')}; one thread each; of the one process's wall "
            f"time: fedfuse {wall['fedfuse_two'] / wall['fedfuse']:.2f}, "
            f"bare {wall['bare_two'] / wall['bare']:.2f}" if pair else "engine=ray needs Ray"),
        row("round", "seconds_round", "one round", wall["fedfuse"], "s",
            note=f"processor time {cpu['fedfuse']:.2f} s"),
        row("round", "seconds_bare", "one round of the bare loop", wall["bare"], "s",
            note=f"processor time {cpu['bare']:.2f} s"),
        row("round", "adjusted_ratio", "round of knfu_adjusted / of knfu",
            wall["knfu_adjusted"] / wall["knfu"], "x", bar=1.03,
            note=f"{ratio('knfu_adjusted', 'knfu')}; with private batches beside distillation"),
        row("round", "bf16_ratio", "round in bf16 / in fp32", half, "x",
            note=f"{ratio('bf16', 'fedfuse')}; mean accuracy {accuracy['bf16']:.4f} "
            f"against {accuracy['fedfuse']:.4f}" if half else "left out by --quick"),
    ]  # fmt: skip


def by_rounds(cfg: Any, clients: list[bare.Client], shared: bare.Shared) -> dict[str, bare.Result]:
    """Run fedfuse and both bare loops, a round of each in turns: cores change their speed."""
    num_rounds, latest = cfg.num_rounds, {}
    loops = {
        name: bare.rounds(clients, shared, num_rounds, tuned=name == "tuned")
        for name in ("bare", "tuned")
    }

    def take_turns() -> None:
        latest.update({name: next(loop) for name, loop in loops.items()})

    return {"fedfuse": ours(cfg, take_turns), **latest}


def ours(cfg: Any, between: Callable[[], None] = lambda: None) -> bare.Result:
    """Run fedfuse on the work of the bare loop; ``between`` is called after each round."""
    watch = Stopwatch(between)
    run(cfg, watch)
    (arm,) = watch.records
    last = [
        entry.value
        for entry in watch.rows(arm)
        if entry.round == cfg.num_rounds
        and (entry.phase, entry.metric) == ("fused", "accuracy_global")
    ]
    return bare.Result(watch.wall, watch.cpu, float(np.mean(last)))


def bare_task(
    data: FederatedData, models: Any, cfg: DictConfig
) -> tuple[list[bare.Client], bare.Shared]:
    """Return the bare loop's tensors: the same samples, first weights and orders as fedfuse's."""
    streams = Streams(cfg.seed)
    rounds = range(1, cfg.num_rounds + 1)
    public_size, batch = len(data.public), cfg.client.distill_batch_size
    clients = []
    for client in data.clients:
        inputs, labels = gather(data.train, client.train, data.mean, data.std)
        val_inputs, val_labels = gather(data.train, client.val, data.mean, data.std)
        at = in_test(data, [client])
        beside_inputs, beside_labels = gather(
            data.own_pool, client.test[at < 0], data.mean, data.std
        )
        entropy = streams.entropy("init", models.name(client.client_id))
        clients.append(
            bare.Client(
                model=build_checked(
                    models, client.client_id, data.input_shape, data.num_classes, entropy
                ),
                inputs=inputs,
                labels=labels,
                val_inputs=val_inputs,
                val_labels=val_labels,
                own_test=torch.from_numpy(at[at >= 0]),
                beside_inputs=beside_inputs,
                beside_labels=beside_labels,
                private_batches=[
                    _batches(
                        len(labels),
                        cfg.client.batch_size,
                        streams.torch("client", client.client_id, "train", r),
                    )
                    for r in rounds
                ],
                public_batches=[
                    _batches(
                        public_size, batch, streams.torch("client", client.client_id, "public", r)
                    )
                    for r in rounds
                ],
            )
        )
    return clients, bare.Shared(
        public=to_inputs(data.public.inputs, data.mean, data.std),
        test_inputs=to_inputs(data.test.inputs, data.mean, data.std),
        test_labels=torch.from_numpy(np.array(data.test.labels)),
        eval_batch_size=cfg.evaluation.batch_size,
    )


def _batches(size: int, batch_size: int, generator: torch.Generator) -> list[torch.Tensor]:
    plan: Schedule = schedule(size, batch_size, steps_per_epoch(size, batch_size), generator)
    batches: Sequence[torch.Tensor] = torch.split(plan.order, list(plan.sizes))
    return list(batches)
