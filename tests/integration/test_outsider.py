"""An outsider's parts, each in one file outside of the project, run like fedfuse's own.

A scorer, a dataset and a method are written into a folder of their author's and run together; what
clients upload of one's own has ``examples/my_exchange.py`` and ``test_own_exchange.py`` on every
engine, and is run here beside the others.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXCHANGE = Path(__file__).parents[2] / "examples" / "my_exchange.py"

SCORER = '''
"""Each client listens to the one after it alone."""
import torch

def successor(bank, labels):
    count = len(bank.client_ids)
    scores = torch.full((count, count), -torch.inf)
    scores[torch.arange(count), (torch.arange(count) + 1) % count] = 0.0
    return scores
'''

DATASET = '''
"""Two stripes: class 0 is bright above, class 1 below."""
import numpy as np
from fedfuse.data.raw import Decoded, describe
from fedfuse.types import Samples

def stripes(seed=0):
    rng = np.random.default_rng(seed)
    def draw(count):
        labels = rng.integers(0, 2, count)
        images = rng.integers(0, 40, (count, 1, 8, 8), dtype=np.uint8)
        for label in (0, 1):
            images[labels == label, :, 4 * label : 4 * label + 4] += 150
        return Samples(images, labels)
    return describe("stripes", Decoded(draw(400), draw(200), ("above", "below")))
'''

METHOD = """
# @package _global_
defaults:
  - override /scorer: custom
  - override /neighbours: all
  - override /rule: mean_probs
  - override /sharpen: none
  - override /distill: kl
method:
  name: ring
scorer:
  _target_: my_scorer.successor
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of somebody's own, in which they start fedfuse."""
    (tmp_path / "my_scorer.py").write_text(SCORER)
    (tmp_path / "my_data.py").write_text(DATASET)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "ring.yaml").write_text(METHOD)
    shutil.copy(EXCHANGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_scorer", "my_data", "my_exchange"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_scorer_a_method_and_a_dataset(home: Path, simulate: Callable[..., Any]) -> None:
    run = simulate(
        "method=ring",
        "dataset=custom",
        "dataset._target_=my_data.stripes",
        "+dataset.seed=3",
        config_dir=home / "conf",
    )
    assert run.summary["method"] == "ring"
    assert run.summary["dataset"] == "stripes"
    ring = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert run.weights[-1].tolist() == ring
    last = run.metrics.query("phase == 'fused' and metric == 'accuracy_own' and round == 2")
    assert last["value"].min() > 0.9  # stripes are easy to tell


def test_an_upload(home: Path, simulate: Callable[..., Any]) -> None:
    run = simulate(
        "exchange=custom", "exchange._target_=my_exchange.SoftLabels", "method.name=soft_labels"
    )
    assert run.summary["method"] == "soft_labels"
    sent = run.metrics.query("metric == 'bytes_up' and round == 2")["value"]
    assert sent.max() == 3 * (4 * 10 * 10 + 8 * 10)  # probs [C, C] float32, counts [C] int64
