"""Tests that want a GPU; they need torch, numpy and pytest alone.

``pytest -m cuda tests/cuda --confcutdir=tests/cuda`` runs them where there is one (without the
other tests' conftest, which needs more). FEDFUSE_TEST_DEVICE=cpu runs the same code on the CPU: the
GPU kit's dry run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Return the device to test; skip where there is none."""
    wanted = torch.device(os.environ.get("FEDFUSE_TEST_DEVICE", "cuda"))
    if wanted.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return wanted


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Compare with the CPU in float32 proper: TF32 convolutions have ten bits."""
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = kept
