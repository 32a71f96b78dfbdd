"""``mechanisms``: what their server steps take, and their losses' training steps beside KL's.

Server steps as in ``methods`` (K=100 clients, P=1,000 public samples, C=10 classes, two threads),
with the same weights for all and with KnFu's. Losses in the step that a client takes: a batch of 64
through LeNet-5, backwards, Adam; one thread, because a client has one. All sides in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from hydra._internal.hydra import Hydra

from experiments.assembly.parts import build_pipeline
from experiments.benchmarks.batched import CLASSES, PUBLIC, PUBLIC_BATCH, SHAPE
from experiments.benchmarks.methods import BAR, NOTE, SAMPLES, THREADS, bank
from experiments.benchmarks.rows import Arguments, Row, in_turns, median_ratio, row
from experiments.config import compose
from experiments.config.instantiate import instantiate
from fedfuse.models.lenet import lenet5
from fedfuse.train.facts import Facts, as_trained, told, wants, widen
from fedfuse.train.loop import fit
from fedfuse.train.own_loss import LearnsByClient, LossContext
from fedfuse.train.work import Work, schedule, steps_per_epoch

STEPS = (
    "method=evidence",
    "method=logit_arithmetic",
    "method=fantastic_gains rule=own_or_fused",
    "method=fantastic_gains rule=own_or_fused rule.by=label",
    "method=fantastic_gains rule=own_or_fused +rule@rule.inner=best_source",
    "method=bidirectional",
    "method=bidirectional rule.by=label",
    "method=vida_gate",
    "method=creamfl_logits",
    "method=prior_free",
    "method=taid_server",
)
"""Of rules, as one would say them on the command line; each is also measured on KnFu's weights."""
SCORERS = ("mrr", "probe", "gradient_agreement")
"""Bundles whose scorer is what takes the time."""
LOSS_BAR = 1.3
WITHOUT_BAR = ("tgeo",)
"""Losses whose cost is told and not held to anything: one that learns beside the client."""


def measure(args: Arguments) -> list[Row]:
    """Return the seconds of each server step, and what each loss costs beside KL."""
    hydra, before = compose.open_hydra(), torch.get_num_threads()
    repeats = 1 if args.quick else max(3, args.repeats)
    try:
        torch.set_num_threads(THREADS)
        rows = _steps(hydra, repeats)
        torch.set_num_threads(1)
        return [*rows, *_losses(hydra, repeats if args.quick else 5 * repeats)]
    finally:
        torch.set_num_threads(before)


def _steps(hydra: Hydra, repeats: int) -> list[Row]:
    lines = [*(f"{line}{more}" for line in STEPS for more in ("", " scorer=knfu"))]
    lines += [f"method={name}" for name in SCORERS]
    sides = {line: partial(_timed, step(hydra, line)) for line in lines}
    in_turns(sides, 1)
    taken = in_turns(sides, repeats)
    rows = []
    for line in lines:
        wall, processor = min(taken[line])
        note = f"{NOTE}; {processor:.2f} s of processors"
        rows.append(row("mechanisms", line, f"server step: {line}", wall, "s", bar=BAR, note=note))
    return rows


def step(hydra: Hydra, line: str) -> Callable[[], object]:
    """Return what the server computes in a round, as a command line would have it."""
    pipeline = build_pipeline(compose.configure(line.split(), hydra))
    assert pipeline is not None
    return partial(pipeline, bank(), torch.arange(SAMPLES) % CLASSES, round_=1)


def _losses(hydra: Hydra, repeats: int) -> list[Row]:
    names = sorted(set(hydra.config_loader.get_group_options("distill")) - {"custom", "kl"})
    sides = {name: partial(_timed, lesson(hydra, name)) for name in ("kl", *names)}
    in_turns(sides, 1)
    # Of processors: one thread waits for nobody, but the machine may be shared.
    taken = {name: [spent for _, spent in each] for name, each in in_turns(sides, repeats).items()}
    per_step = min(taken["kl"]) / steps_per_epoch(PUBLIC, PUBLIC_BATCH)
    note = f"LeNet-5, batches of {PUBLIC_BATCH}, one thread; {1e3 * per_step:.2f} ms with kl"
    return [
        row(
            *("mechanisms", f"loss_{name}", f"training step: distill={name} / kl"),
            *(median_ratio(taken[name], taken["kl"]), "x"),
            bar=None if name in WITHOUT_BAR else LOSS_BAR,
            note=note,
        )
        for name in names
    ]


def lesson(hydra: Hydra, name: str) -> Callable[[], object]:
    """Return what distils one client's round with a loss, told all that it wants to know."""
    loss = instantiate(compose.configure([f"distill={name}"], hydra).distill, "distill")
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = lenet5(SHAPE, CLASSES).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    logits = 3 * torch.randn(2, PUBLIC, CLASSES, generator=draw)
    targets = logits[0].softmax(-1)
    if wants(loss):
        known = Facts(
            labels=logits[0].argmax(-1),
            own=logits[1],
            prior=torch.zeros(PUBLIC, CLASSES) - torch.tensor(float(CLASSES)).log(),
            clock=torch.full((PUBLIC,), 0.5),
        )
        targets = widen(targets, told(loss, known))
    plan = schedule(PUBLIC, PUBLIC_BATCH, steps_per_epoch(PUBLIC, PUBLIC_BATCH), draw)
    inputs = torch.randn(PUBLIC, *SHAPE, generator=draw)
    work = Work(inputs, targets, as_trained(loss), plan)
    if isinstance(loss, LearnsByClient):  # by as many samples as a client holds back
        held = inputs[:PUBLIC_BATCH], logits[0].argmax(-1)[:PUBLIC_BATCH]
        own = loss.of_client(LossContext({}, *held, learning_rate=1e-3, entropy=0, report={}))
        work = replace(work, loss=as_trained(own), before_step=own.before_step)
    return partial(fit, model, adam, work)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor
