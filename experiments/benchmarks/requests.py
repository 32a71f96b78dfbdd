"""``requests``: what asking for some of the public samples costs beside the round that it is for.

K=100 clients: one request and what it learns from the fusion, on the server; or every client's
answer or wish. Beside a whole round of the workload of ``scaling``, one thread each; seconds of the
processor, since the machine may be shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from experiments.benchmarks import methods, scaling
from experiments.benchmarks.rows import Arguments, Row, row
from experiments.config import compose
from experiments.config.instantiate import instantiate
from fedfuse.types import KnowledgeBank, Space, Teachers

CLIENTS, BAR = 100, 0.05
SLOTS = ("request", "answer", "wish")


def measure(args: Arguments) -> list[Row]:
    """Return for each option its share of a round."""
    hydra, before = compose.open_hydra(), torch.get_num_threads()
    whole = min(scaling.in_process(CLIENTS, 3, args.mnist)["cpu"][1:])
    note = f"K={CLIENTS}, {scaling.PUBLIC} public samples; a round takes {whole:.2f} s"
    rows = []
    torch.set_num_threads(1)
    try:
        for slot in SLOTS:
            options = set(hydra.config_loader.get_group_options(slot)) - {"none", "custom"}
            for name in sorted(options):
                part = instantiate(compose.configure([f"{slot}={name}"], hydra)[slot], slot)
                ask = partial(_requested if slot == "request" else _chosen, part)
                seconds = _best(ask, 1 if args.quick else 5 * args.repeats)
                what = f"{slot}={name} / round, K={CLIENTS}"
                told = f"{note}, this {1e3 * seconds:.1f} ms of a processor"
                rows.append(row("requests", f"{slot}_{name}", what, seconds / whole, "x",
                                bar=BAR, note=told))  # fmt: skip
        return rows
    finally:
        torch.set_num_threads(before)


def _round() -> tuple[KnowledgeBank, Teachers, torch.Tensor, torch.Tensor]:
    """Return what is noted of a round: the bank, the mean as teacher, labels and index."""
    bank, index = methods.bank(), torch.arange(scaling.PUBLIC)
    bank = replace(bank, logits=bank.logits[:, : scaling.PUBLIC], confidence=None)
    targets = bank.logits.softmax(dim=-1).mean(dim=0, keepdim=True).expand_as(bank.logits)
    teachers = Teachers(bank.client_ids, targets, Space.PROBABILITIES)
    return bank, teachers, index % methods.CLASSES, index


def _requested(part: Any, known: Any) -> None:
    bank, teachers, labels, index = known
    part(2, index, bank.client_ids.tolist())
    part.note(bank, teachers, labels, 2, index)


def _chosen(part: Any, known: Any) -> None:
    bank, teachers, _, _ = known
    counts = bank.class_distribution * bank.num_examples.unsqueeze(1)
    last = teachers.targets.log()
    for row_, client in enumerate(bank.client_ids.tolist()):
        part(bank.logits[row_], last[row_], counts[row_], torch.Generator().manual_seed(client))


def _best(step: Callable[[Any], None], repeats: int) -> float:
    """Return the least processor seconds; the first call, which knows nothing, is left aside."""
    known = _round()
    step(known)
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        step(known)
        seconds.append(time.process_time() - begun)
    return min(seconds)
