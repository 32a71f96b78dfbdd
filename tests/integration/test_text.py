"""A run of texts is one run, whoever hosts it, breaks it off, or trains its clients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fedfuse
from experiments.config import compose
from experiments.runs.lifecycle import perform
from experiments.runs.resume import reopen_run
from fedfuse.data.arrays import from_arrays
from fedfuse.data.raw import RawDataset
from fedfuse.errors import ConfigError, ModelError
from server import loop
from tests.integration.test_mechanisms import left, models, run

WORDS = ["dataset._target_=tests.integration.test_text.fruits", "public.size=20", "num_clients=3"]
WORDS += ["partitioner.min_samples=15", "client.batch_size=16", "num_rounds=2", "warmup_rounds=0"]
WORDS += ["baseline=none", "models=save", "trainer=loop", "checkpoint.every=0", "method=mean"]
WORDS += ["optimizer=sgd", "model=text_tiers"]
WORDS += [f"model.factories.{name}.{size}" for name in ("narrow", "ngrams", "text_transformer")
          for size in ("buckets=97", "width=8")]  # fmt: skip
NAMES = ("apple", "pear", "plum")


def phrases() -> tuple[list[str], list[int]]:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 180).tolist()
    return [f"a {NAMES[kind]} of {number} grams" for number, kind in enumerate(kinds)], kinds


def fruits() -> RawDataset:
    texts, labels = phrases()
    return from_arrays(texts, labels, class_names=NAMES)


def test_text_broken_off_and_resumed_on_two_nodes_is_the_same_run(tmp_path, monkeypatch):
    hydra = compose.open_hydra()
    cfg = compose.configure(WORDS, hydra)
    unbroken, folder, real = run(cfg, tmp_path / "whole"), tmp_path / "run", loop.record

    def interrupt(round_: int, *args: object, **named: object):
        if round_ == 2:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(cfg, folder, engine__num_nodes=2, checkpoint__every=1)
    perform(reopen_run(folder, [f"resume={folder}", WORDS[0]], hydra))
    assert left(folder) == left(unbroken)
    together = run(cfg, tmp_path / "together", trainer="batched")
    torch.testing.assert_close(models(together), models(unbroken), atol=1e-4, rtol=1e-3)


def test_texts_from_python_are_learnt_and_a_clients_model_takes_texts(tmp_path):
    texts, labels = phrases()
    keys = {"model": "ngrams", "num_clients": 2, "public.size": 20}
    keys |= {"num_rounds": 5, "client.batch_size": 8, "baseline": "none", "partitioner": "iid"}
    made = fedfuse.simulate(dataset=(texts, labels), out=tmp_path / "run", models="save", **keys)
    model = made.model(0)
    assert model(["a plum of 7 grams", "an apple", "pear"]).argmax(dim=1).tolist() == [2, 0, 1]
    with pytest.raises(ModelError, match="no inputs of the data set"):
        model(np.zeros((2, 1, 8, 8), dtype=np.uint8))
    with pytest.raises(ConfigError, match="model=ngrams"):
        fedfuse.simulate(dataset=(texts, labels), out=tmp_path / "wrong", **keys | {"model": "mlp"})
    assert not (tmp_path / "wrong" / "metrics.parquet").exists()
