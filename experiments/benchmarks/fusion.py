"""``fusion``: scores, top-10 neighbours and fusion at sizes that no matrix of all pairs would fit.

Each size runs in a process of its own, so that its peak memory is its own and its threads are two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.rows import Arguments, Row, in_turns, median_ratio, peak_bytes, row
from fedfuse.fusion import All, ByClass, KnFu, MeanProbabilities, Pipeline, TopK
from fedfuse.fusion.rules import weighted_mean
from fedfuse.types import KnowledgeBank

SAMPLES, CLASSES, NEIGHBOURS, THREADS = 1_000, 10, 10, 2
GEMM_CLIENTS = 3_000
CLASS_CLIENTS = 1_000


def measure(args: Arguments) -> list[Row]:
    """Return seconds and peak memory of three sizes, and what the dense product costs."""
    rows = _sized(args, "10k", 10_000, "float32", bar=1.5)
    rows += _sized(args, "100k", 100_000, "float16", bar=60.0)
    rows += _sized(args, "1m", 1_000_000, "float16", bar=10.0, device="cuda")
    ratio = _call("gemm", 1_000 if args.quick else GEMM_CLIENTS, "float32", "cpu", args.repeats)
    note = f"K={ratio['clients']:,}, P·C=10,000; {ratio['rate'] / 1e9:.0f} GFLOP/s plain"
    what = "dense fusion rate / plain matmul rate"
    rows += [
        row("fusion", "dense_gemm", what, ratio["share"], "x", bar=0.9, higher=True, note=note)
    ]
    cost = _call("by_class", CLASS_CLIENTS, "float32", "cpu", args.repeats)
    note = f"K={CLASS_CLIENTS:,}, dense; {cost['seconds']:.3g} s by pairs"
    what = "scores + fusion: weights by class / weights by pair"
    return [*rows, row("fusion", "by_class", what, cost["ratio"], "x", bar=1.5, note=note)]


def counted(num_clients: int, size: int) -> dict[str, float]:
    """Return the least that has to be done: multiplications and additions, and bytes moved.

    The bank (``size`` bytes a number) is read for the scores and again for the fusion, its float32
    probabilities are written and gathered ``k`` times, and the teachers are written.

    >>> counted(10_000, 4)
    {'flop': 2200000000.0, 'bytes': 5600000000.0}
    """
    numbers = num_clients * SAMPLES * CLASSES
    return {
        "flop": 2.0 * num_clients**2 * (CLASSES + 1),
        "bytes": float(numbers * (3 * size + 4 + 4 * NEIGHBOURS)),
    }


def _sized(
    args: Arguments, key: str, clients: int, dtype: str, *, bar: float, device: str = "cpu"
) -> list[Row]:
    what = f"scores + top-10 + fusion, K={clients:,}, {dtype} bank"
    size = torch.finfo(getattr(torch, dtype)).bits // 8
    floor = counted(clients, size)
    note = f"{floor['flop'] / 1e9:.3g} GFLOP in float64, {floor['bytes'] / 1e9:.3g} GB moved"
    skip = ""
    if device == "cuda" and not torch.cuda.is_available():
        skip = "no GPU"
    elif device == "cpu" and args.quick and clients > 10_000:
        skip = "left out by --quick"
    if skip:
        return [row("fusion", f"{key}_s", what, None, "s", bar=bar, note=f"{skip}; {note}")]
    found = _call("fuse", clients, dtype, device, args.repeats if clients <= 10_000 else 1)
    bank = clients * SAMPLES * CLASSES * size
    if found is None:
        return [row("fusion", f"{key}_s", what, None, "s", bar=bar, note="out of memory")]
    rows = [row("fusion", f"{key}_s", what, found["seconds"], "s", bar=bar, note=note)]
    if device == "cpu":
        allowed = 8 * 2**30 if clients > 10_000 else 1.5 * 2 * bank
        peak = found["bytes"] / 2**20
        rows.append(
            row(
                "fusion",
                f"{key}_mib",
                "  its peak memory, bank and teachers included",
                peak,
                "MiB",
                bar=allowed / 2**20,
                note=f"{found['bytes'] / (2 * bank):.2f} x twice the bank",
            )
        )
    return rows


def _call(what: str, clients: int, dtype: str, device: str, repeats: int) -> Any:
    """Return what this file, as a program, prints as its last line; None if it was killed."""
    command = [sys.executable, "-m", __name__, what, str(clients), dtype, device, str(repeats)]
    env = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode < 0:
        return None
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _bank(clients: int, dtype: torch.dtype, device: str) -> KnowledgeBank:
    """Return made-up knowledge, drawn in its own precision a thousand clients at a time."""
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.empty(clients, SAMPLES, CLASSES, dtype=dtype, device=device)
    for part in logits.split(1_000):  # type: ignore[no-untyped-call]
        leaning = torch.randn(len(part), 1, CLASSES, generator=generator, device=device)
        part.normal_(generator=generator).add_((2 * leaning).to(dtype))
    ids = torch.arange(clients, device=device)
    return KnowledgeBank(ids, logits, torch.ones_like(ids))


def _fuse(clients: int, dtype: torch.dtype, device: str, repeats: int) -> dict[str, float]:
    pipeline = Pipeline(KnFu(), TopK(NEIGHBOURS), MeanProbabilities())
    pipeline(_bank(500, dtype, device))  # code is loaded and kernels are chosen
    before = peak_bytes()
    bank = _bank(clients, dtype, device)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        pipeline(bank)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    peak = peak_bytes()
    return {"seconds": sorted(seconds)[len(seconds) // 2], "bytes": float(peak - before)}


def _gemm(clients: int, repeats: int) -> dict[str, float]:
    weights = torch.rand(clients, clients)
    values = torch.rand(clients, SAMPLES, CLASSES)
    flat = values.flatten(1)

    def timed(work: Any) -> float:
        begin = time.perf_counter()
        result: Tensor = work()
        return (time.perf_counter() - begin) + 0 * len(result)

    sides = {
        "ours": lambda: timed(lambda: weighted_mean(values, weights)),
        "plain": lambda: timed(lambda: weights @ flat),
    }
    in_turns(sides, 1)
    seconds = in_turns(sides, max(3, repeats))
    operations = 2 * clients**2 * flat.shape[1]
    return {
        "clients": clients,
        "share": median_ratio(seconds["plain"], seconds["ours"]),
        "rate": operations / sorted(seconds["plain"])[len(seconds["plain"]) // 2],
    }


def _by_class(clients: int, repeats: int) -> dict[str, float]:
    bank = _bank(clients, torch.float32, "cpu")
    shares = bank.logits.mean(dim=1).softmax(dim=1)
    bank = replace(bank, class_distribution=shares, num_examples=100 * bank.num_examples)

    def timed(scorer: KnFu | ByClass) -> float:
        begin = time.perf_counter()
        Pipeline(scorer, All(), MeanProbabilities())(bank)
        return time.perf_counter() - begin

    sides = {"pairs": lambda: timed(KnFu()), "classes": lambda: timed(ByClass(KnFu()))}
    in_turns(sides, 1)
    seconds = in_turns(sides, max(5, repeats))
    return {
        "ratio": median_ratio(seconds["classes"], seconds["pairs"]),
        "seconds": sorted(seconds["pairs"])[len(seconds["pairs"]) // 2],
    }


def main() -> None:
    """Measure one size and print it as JSON: what, clients, dtype, device, repeats."""
    parser = argparse.ArgumentParser()
    for name, kind in (("what", str), ("clients", int), ("dtype", str), ("device", str)):
        parser.add_argument(name, type=kind)
    parser.add_argument("repeats", type=int)
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    if args.what == "gemm":
        print(json.dumps(_gemm(args.clients, args.repeats)))
    elif args.what == "by_class":
        print(json.dumps(_by_class(args.clients, args.repeats)))
    else:
        dtype: torch.dtype = getattr(torch, args.dtype)
        print(json.dumps(_fuse(args.clients, dtype, args.device, args.repeats)))


if __name__ == "__main__":
    main()
