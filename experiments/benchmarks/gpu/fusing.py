"""Fusion of more clients than any matrix of all pairs would fit, from a bank in host memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch

from experiments.benchmarks.fusion import CLASSES, NEIGHBOURS, SAMPLES, counted
from experiments.benchmarks.gpu.training import kernels, wait
from experiments.benchmarks.rows import Row, row
from fedfuse.fusion import KnFu, MeanProbabilities, Pipeline, TopK
from fedfuse.fusion.divergences import FORMS, exact
from fedfuse.fusion.topk import Search, blocks_for
from fedfuse.types import KnowledgeBank, Teachers

GOAL = {1_000_000: 10.0}
"""Seconds."""


def measure(clients: int, *, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:  # noqa: ARG001
    """Yield the seconds of one fusion: scores, the best ten sources of each client, teachers."""
    clients = min(clients, 9_000) if tiny else clients
    samples = 10 if tiny else SAMPLES
    pipeline = Pipeline(KnFu(), TopK(NEIGHBOURS), MeanProbabilities())
    pipeline(_bank(500, samples, device), device=device)  # kernels are chosen
    bank = _bank(clients, samples, device)
    wait(device)
    begin = time.perf_counter()
    fusion = pipeline(bank, device=device)
    wait(device)
    seconds = time.perf_counter() - begin
    assert isinstance(fusion.teachers, Teachers)
    teachers = fusion.teachers.targets
    assert teachers.shape == bank.logits.shape
    # Any row will do: what is wrong with the streaming is wrong in all of them.
    apart = float((teachers[::997].double().sum(2) - 1).abs().max())
    floor = counted(clients, 2)
    note = (
        f"float16 bank in host memory; at least {floor['flop'] / 1e12:.2g} TFLOP in float64 and "
        f"{floor['bytes'] / 1e9:.3g} GB moved; rows miss a sum of 1 by at most {apart:.0e}"
    )
    if device.type == "cuda":
        note += f"; peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB on the device"
    what = f"scores + top-10 + fusion, K={clients:,}"
    yield row("gpu", f"fusion_{clients}", what, seconds, "s", bar=GOAL.get(clients), note=note)
    del fusion, teachers
    begin = time.perf_counter()
    KnFu().nearest(bank, None, NEIGHBOURS, True, device)
    wait(device)
    found = time.perf_counter() - begin
    note = (
        "the bank is read once for it; the rest is the other reading, the fusion and the teachers"
    )
    yield row(
        "gpu", f"fusion_{clients}_sources", "  the sources of each alone", found, "s", note=note
    )


def merging(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:  # noqa: ARG001
    """Yield what all pairs of a million clients take, by size of the blocks, and by kernel.

    A strip of receivers is like any other, so two of them are timed.
    """
    clients = 9_000 if tiny else 1_000_000
    draw = torch.Generator(device).manual_seed(0)
    epds = torch.randn(clients, CLASSES, generator=draw, device=device).mul_(2).softmax(dim=1)
    form = FORMS["kl"]
    search = Search(form, *form.prepare(exact(epds)), 3.0, None)
    usual = blocks_for(clients, device)
    sizes = [usual] if tiny else [usual, (8192, 1024), (8192, 65536), (2048, 16384), (16384, 8192)]

    def strips(rows: int, columns: int) -> None:
        for start in (0, min(rows, clients - rows)):
            search.strip(slice(start, start + rows), columns, NEIGHBOURS - 1)

    for rows, columns in sizes:
        strips(rows, columns)
        wait(device)
        begin = time.perf_counter()
        strips(rows, columns)
        wait(device)
        seconds = time.perf_counter() - begin
        whole = seconds / 2 * clients / rows
        what = f"all pairs of K={clients:,}, blocks of {rows:,} x {columns:,}"
        note = f"two strips took {1e3 * seconds:.1f} ms"
        yield row("gpu", f"pairs_{rows}_{columns}", what, whole, "s", note=note)
        if (rows, columns) == usual:
            yield from kernels("merging", partial(strips, rows, columns), device, seconds)


def _bank(clients: int, samples: int, device: torch.device) -> KnowledgeBank:
    """Return made-up knowledge in host memory, drawn on the device a thousand clients at a time."""
    draw = torch.Generator(device).manual_seed(0)
    logits = torch.empty(clients, samples, CLASSES, dtype=torch.float16)
    for part in logits.split(1_000):  # type: ignore[no-untyped-call]
        leaning = 2 * torch.randn(len(part), 1, CLASSES, generator=draw, device=device)
        noise = torch.randn(part.shape, generator=draw, device=device)
        part.copy_((noise + leaning).half())
    ids = torch.arange(clients)
    return KnowledgeBank(ids, logits, torch.ones_like(ids))
