"""Tests that want a GPU; they need torch, numpy and pytest alone.

``pytest -m cuda tests/cuda --confcutdir=tests/cuda`` runs them where there is one (without the
other tests' conftest, which needs more). FEDFUSE_TEST_DEVICE=cpu runs the same code on the CPU: the
GPU kit's dry run; FEDFUSE_TEST_DEVICE=pretend runs it on a GPU that is none, where what mixes
devices raises as it would there (:mod:`tests.pretend_cuda`). FEDFUSE_TEST_CASES=1 runs one case of
each test.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from tests.pretend_cuda import pretend_cuda


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep as many cases of each test as are asked for."""
    most = int(os.environ.get("FEDFUSE_TEST_CASES", len(items)))
    seen: Counter[str] = Counter()
    kept = []
    for item in items:
        name = item.nodeid.partition("[")[0]
        seen[name] += 1
        if seen[name] <= most:
            kept.append(item)
    items[:] = kept


@pytest.fixture
def device() -> Iterator[torch.device]:
    """Return the device to test; skip where there is none."""
    asked = os.environ.get("FEDFUSE_TEST_DEVICE", "cuda")
    if asked == "pretend":
        with pretend_cuda():
            yield torch.device("cuda")
        return
    wanted = torch.device(asked)
    if wanted.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    yield wanted


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Compare with the CPU in float32 proper: TF32 convolutions have ten bits."""
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = kept
