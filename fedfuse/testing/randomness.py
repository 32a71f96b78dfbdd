"""Hold a part to its own random stream."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fedfuse.testing.failed import expect_that


@contextmanager
def global_randomness_untouched(name: str, given: str) -> Iterator[None]:
    """Raise if the block moves a global random state; put it back either way."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    torch_state = torch.random.get_rng_state()
    before = pickle.dumps(numpy_state)
    moved = []
    try:
        yield
        if pickle.dumps(np.random.get_state()) != before:  # noqa: NPY002
            moved.append("numpy.random")
        if random.getstate() != python_state:
            moved.append("random")
        if not torch.equal(torch.random.get_rng_state(), torch_state):
            moved.append("torch")
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        torch.random.set_rng_state(torch_state)
    expect_that(
        not moved,
        f"{name} uses a global random generator",
        given=given,
        got=f"the global state of {', '.join(moved)} moved",
        expected="every random number drawn from the rng argument, as in rng.permutation(n)",
    )
