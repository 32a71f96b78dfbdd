"""Start a run on the engine that the configuration names."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig

from experiments.assembly.attack import attacked
from experiments.assembly.parts import Parts, build_parts
from experiments.assembly.preflight import check_compatible
from experiments.assembly.privacy import disclosure
from experiments.assembly.server import build_server
from experiments.config.comparison_keys import baseline_identity
from experiments.engines.hosting import check_sites
from experiments.runs import baselines
from experiments.runs.resume import checkpoints
from experiments.summary.break_even import break_even
from experiments.summary.faulted import faulted
from experiments.summary.summary import Summary, summarise
from fedfuse.compare import CONTROLS, flips
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.types import FederatedData, MetricRow
from fedfuse.user_code import blamed
from server.app import ServerSetup
from server.reporters.folder import RunFolder
from server.reporters.in_memory import InMemory
from server.reporters.many import Many
from server.reporters.partition_file import partition_columns, write_partition
from server.reporters.protocol import Reporter

Array = npt.NDArray[np.floating]

CONVENTIONS = {
    "stage_order": "train, predict, fuse, distil, evaluate; evaluated after both training phases",
    "extraction": "eval mode, no augmentation, float32 logits",
    "kd_reduction": "sum over classes, mean over the batch",
    "result": "last round; the best validation round beside it, never the best on test",
}
"""What decides whether numbers are comparable and is not a key of the configuration."""


Engine = Callable[[Parts, ServerSetup, RunFolder], None]
"""Run all rounds of a setup; raise what stops them."""


def spending(rows: Iterable[MetricRow], kind: str, allowed: int | None) -> dict[str, object]:
    """Return what a method was given and what it exchanged, for ``run.json``."""
    by_round: dict[int, float] = {}
    for row in rows:
        if row.metric in ("bytes_up", "bytes_down"):
            by_round[row.round] = by_round.get(row.round, 0.0) + row.value
    return {
        "kind": kind,
        "bytes_allowed": allowed,
        "bytes_spent": int(sum(by_round.values())),
        "rounds_that_exchanged": sum(size > 0 for size in by_round.values()),
    }


def run(
    cfg: DictConfig,
    folder: RunFolder,
    reporter: Reporter,
    shared: baselines.Baselines | None = None,
    engine: Engine | None = None,
) -> Summary:
    """Run the experiment: build everything and check it, then train, then sum up.

    Args:
        cfg: The composed configuration.
        folder: Where the run is written down.
        reporter: Who watches.
        shared: Where the runs of a sweep keep the baselines that they share; None for a run on
            its own.
        engine: What runs the rounds; the configuration's ``engine`` if None.

    Raises:
        FedfuseError: If the configuration cannot work (nothing has been trained then), or a part
            of the user's own fails.
    """
    with blamed():
        return _run(cfg, folder, reporter, shared, engine)


def _run(
    cfg: DictConfig,
    folder: RunFolder,
    reporter: Reporter,
    shared: baselines.Baselines | None,
    engine: Engine | None,
) -> Summary:
    torch.set_num_threads(cfg.client.threads)
    if engine is None:
        check_sites(cfg)
    parts = build_parts(cfg, private=cfg.engine.name != "deployment")
    check_compatible(parts)
    setup = build_server(parts, reporter)
    combines = setup.combines[setup.info.arms[-1]] is not None
    told = disclosure(cfg, setup.plan.public, shares=combines, exchange=parts.exchange)
    kept = checkpoints(cfg, folder.path, parts.data.fingerprint)
    if kept is not None:
        kept.check()  # before a resumed run's record is overwritten with another run's facts
    counts = parts.data.class_counts()
    if counts.any():  # a server of hosts with their own data does not see who holds what
        write_partition(folder, **partition_columns(parts.data))
        folder.write_preview(setup.info.preview)
    folder.record(
        data_fingerprint=parts.data.fingerprint,
        class_names=parts.data.class_names,
        test_samples=len(parts.data.test),
        public_set=parts.data.public.source,
        samples_moved_by_partitioner=parts.data.repaired,
        device=str(setup.plan.device),
        conventions=CONVENTIONS,
    )
    if cfg.student._target_ is not None:
        data = parts.data
        shape = {"input_shape": data.input_shape, "num_classes": data.num_classes}
        folder.record(server_model={**shape, "mean": data.mean, "std": data.std})
    memory = InMemory()
    watchers = [reporter, memory]
    for arm in CONTROLS:
        if shared is not None and arm in setup.info.arms:
            name = baseline_identity(cfg, parts.data.fingerprint, arm)
            if records := shared.find(name):
                setup = replace(setup, known={**setup.known, arm: records})
            else:
                watchers.append(baselines.BaselineRecorder(shared, name, arm))
    info = replace(setup.info, folder=folder.path)
    setup = replace(setup, info=info, reporter=Many(watchers))
    setup = replace(setup, checkpoints=kept)
    if engine is None:
        engine = importlib.import_module(f"experiments.engines.{cfg.engine.name}").run
    engine(parts, setup, folder)
    method, baseline = setup.info.arms[-1], setup.info.arms[0]
    even = None
    if combines and setup.kind == PREDICTIONS:
        rows = memory.rows(method)
        sent = sum(row.value for row in rows if row.metric == "bytes_up")
        # Who was fused has shared in that round.
        shared_in = [row.round for row in rows if row.metric == "self_weight"]
        asked = sum(setup.plan.public.size(round_) for round_ in shared_in)
        even = break_even(parts.data, parts.models, sent, asked)
    folder.record(budget=spending(memory.rows(method), cfg.budget, cfg.budget_bytes or None))
    sizes = _test_sizes(parts.data, memory.rows(method))
    return summarise(
        memory.rows(method),
        memory.rows(baseline) if baseline != method else None,
        setup.info,
        class_counts=counts if counts.any() else None,
        seconds=memory.seconds(method),
        privacy=told,
        attack=attacked(cfg, memory.rows(method)),
        faults=faulted(cfg, memory.rows(method)),
        even=even,
        flipped=_flipped(memory, method, baseline, sizes),
        test_sizes=sizes,
        val_sizes=np.array([len(client.val) for client in parts.data.clients]),
        cfg=cfg,
        others={arm: memory.rows(arm) for arm in setup.info.controls[1:]},
        domains=parts.data.domains,
    )


def _test_sizes(
    data: FederatedData, rows: Iterable[MetricRow]
) -> dict[str, npt.NDArray[np.integer]]:
    """Return the clients' test samples per protocol; empty where there are no clients' data.

    Of sites whose data this process does not see the clients themselves have told.
    """
    if not data.clients:
        return {}
    own = np.array([len(client.test) for client in data.clients])
    for row in rows:
        if row.metric == "test_samples_own" and math.isfinite(row.value):
            own[row.client_id] = int(row.value)
    return {"accuracy_own": own, "accuracy_global": np.full(len(data.clients), len(data.test))}


def _flipped(
    memory: InMemory, method: str, baseline: str, sizes: Mapping[str, npt.NDArray[np.integer]]
) -> dict[str, tuple[Array, Array]]:
    """Return every client's flip rates per test protocol; empty without a baseline."""
    if baseline == method or not sizes:
        return {}
    ours, theirs = memory.right(method), memory.right(baseline)
    return {
        test: flips(ours[test].numpy(), theirs[test].numpy(), sizes[test])
        for test in ours
        if test in theirs
    }
