"""``methods``: what the server computes in a round of every method, and density ratios once.

K=100 clients, P=1,000 public samples, C=10 classes, on two cores. The slots come from the bundles
themselves, composed as the command composes them, so that a new bundle is measured without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from experiments.benchmarks.rows import Arguments, Row, row
from fedfuse.codec.channel import cfd, uint8
from fedfuse.familiarity import KuLSIFSelector
from fedfuse.fusion import KnFu, Pipeline, TopK
from fedfuse.fusion.clusters import SampleClusters
from fedfuse.fusion.robust import (
    CoordinateMedian,
    GeometricMedian,
    Krum,
    SpectralFilter,
    TrimmedMean,
)
from fedfuse.types import KnowledgeBank, Space

CLIENTS, SAMPLES, CLASSES, THREADS = 100, 1_000, 10, 2
BAR, LEARNED_BAR, DENSITY_BAR = 1.0, 3.0, 30.0
DENSITY_CLIENTS, DENSITY_SAMPLES = 10, 500
NOTE = f"K={CLIENTS}, P={SAMPLES:,}, C={CLASSES}, {THREADS} threads"


def measure(args: Arguments) -> list[Row]:
    """Return the seconds of each bundle's server step, of the codecs and of KuLSIF."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        repeats = 1 if args.quick else max(2, args.repeats)
        return [*_bundles(repeats), *_personal(repeats), *_codecs(repeats), _densities()]
    finally:
        torch.set_num_threads(before)


def _bundles(repeats: int) -> list[Row]:
    from experiments.assembly.parts import build_pipeline
    from experiments.config import compose

    hydra = compose.open_hydra()
    names = hydra.config_loader.get_group_options("method")
    rows = []
    for name in sorted(set(names) - {"custom"}):
        pipeline = build_pipeline(compose.configure([f"method={name}"], hydra))
        if pipeline is not None:
            bar = LEARNED_BAR if name == "ktpfl" else BAR
            step = partial(pipeline, bank(), torch.arange(SAMPLES) % CLASSES, round_=1)
            rows.append(_row(name, f"server step of {name}", _best(step, repeats), bar))
    return rows


def _personal(repeats: int) -> list[Row]:
    """Return the rules that work per sample, with neighbours of every receiver's own."""
    rows = []
    rules = (
        CoordinateMedian(),
        TrimmedMean(),
        GeometricMedian(),
        SpectralFilter(),
        SampleClusters(),
        Krum(),
    )
    for rule in rules:
        for k in (5, 50):
            step = partial(Pipeline(KnFu(), TopK(k), rule), bank())
            what = f"{type(rule).__name__}, {k} neighbours of one's own"
            key = f"{type(rule).__name__.lower()}_top_{k}"
            rows.append(_row(key, what, _best(step, repeats), BAR))
    return rows


def _codecs(repeats: int) -> list[Row]:
    """Return what the server spends on reading all clients' uploads and writing the teachers."""
    rows = []
    logits = bank().logits
    for name, channel in (("uint8", uint8()), ("cfd_1_bit", cfd()), ("cfd_4_bits", cfd(bits=4))):
        codec = channel.up
        assert codec is not None
        message, _ = codec.encode(logits, Space.LOGITS, {})
        seconds = _best(partial(codec.decode, message, {}), repeats)
        rows.append(_row(f"read_{name}", f"read {CLIENTS} uploads, {name}", seconds, BAR))
    return rows


def _densities() -> Row:
    draw = torch.Generator().manual_seed(0)
    private = torch.randn(DENSITY_CLIENTS, DENSITY_SAMPLES, 784, generator=draw)
    public = torch.randn(SAMPLES, 784, generator=draw)
    labels = torch.zeros(DENSITY_SAMPLES, dtype=torch.int64)
    select = KuLSIFSelector()
    wall, processor = time.perf_counter(), time.process_time()
    for rows in private:
        select(rows, labels, public, torch.Generator().manual_seed(1))
    what = f"KuLSIF, {DENSITY_CLIENTS} clients of {DENSITY_SAMPLES} samples, once"
    return _row(
        "kulsif", what, (time.perf_counter() - wall, time.process_time() - processor), DENSITY_BAR
    )


def bank() -> KnowledgeBank:
    """Return knowledge that clusters a little, so that iterations have something to do."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=draw)
    logits = torch.randn(CLIENTS, SAMPLES, CLASSES, generator=draw)
    logits += 3 * torch.nn.functional.one_hot(labels, CLASSES)
    shares = torch.rand(CLIENTS, CLASSES, generator=draw)
    return KnowledgeBank(
        client_ids=torch.arange(CLIENTS),
        logits=logits,
        num_examples=torch.randint(50, 500, (CLIENTS,), generator=draw),
        class_distribution=shares / shares.sum(dim=1, keepdim=True),
        confidence=torch.rand(CLIENTS, SAMPLES, generator=draw) + 0.01,
    )


def _best(step: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least wall and processor seconds of some calls; the first one is left aside."""
    step()
    seconds = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        step()
        seconds.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(seconds)


def _row(key: str, what: str, seconds: tuple[float, float], bar: float) -> Row:
    note = f"{NOTE}; {seconds[1]:.2f} s of processors"
    return row("methods", key, what, seconds[0], "s", bar=bar, note=note)
