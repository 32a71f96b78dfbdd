"""Weights are kept of those who were fused, and read back whichever form the file has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from experiments.results.weights import read_weights
from fedfuse.errors import ConfigError
from fedfuse.types import RoundRecord
from server.records import round_file
from server.reporters.folder import RunFolder
from server.reporters.weights_file import WeightsFile

MANY = 20_000
PAIR = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
THREE = torch.full((3, 3), 1 / 3)


def some(round_: int, weights: torch.Tensor, *ids: int) -> RoundRecord:
    return RoundRecord(round_, (), weights, weight_clients=torch.tensor(ids))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.open()
    return made


def written(folder: RunFolder, num_clients: int, *records: RoundRecord) -> dict[str, np.ndarray]:
    file = WeightsFile(folder, num_clients)
    for record in records:
        file.add(record)
    file.finish()
    return load_file(folder.path / "weights.safetensors")


def test_the_file_is_as_large_as_those_who_took_part_are_many(folder):
    tensors = written(folder, MANY, some(2, PAIR, 3, 19_999), some(4, THREE, 0, 3, 7))
    assert (folder.path / "weights.safetensors").stat().st_size < 1000
    found = read_weights(tensors, MANY)
    assert found.rounds.tolist() == [2, 4]
    assert [ids.tolist() for ids in found.clients] == [[3, 19_999], [0, 3, 7]]
    np.testing.assert_array_equal(found.each[0], PAIR)
    np.testing.assert_array_equal(found.each[1], THREE)
    with pytest.raises(ConfigError, match="round_weights"):
        found.dense()


def test_who_was_not_fused_has_zeros_among_all_clients(folder):
    whole = read_weights(written(folder, 4, some(1, PAIR, 1, 3)), 4).dense()
    assert whole.shape == (1, 4, 4)
    assert whole[0][np.ix_([1, 3], [1, 3])].tolist() == PAIR.tolist()
    assert whole.sum() == PAIR.sum()


def test_everybody_in_every_round_is_the_form_that_older_versions_read(folder):
    tensors = written(folder, 2, RoundRecord(2, (), PAIR), RoundRecord(3, (), PAIR))
    assert sorted(tensors) == ["rounds", "weights"]
    assert tensors["weights"].shape == (2, 2, 2)
    np.testing.assert_array_equal(read_weights(tensors, 2).dense()[1], PAIR)


def test_shares_by_class_are_kept_beside_the_weights(folder):
    shares = torch.tensor([[0.75, 0.5, 0.0], [0.25, 0.5, 1.0]])
    records = [RoundRecord(n, (), PAIR, class_shares=n * shares) for n in (2, 3)]
    tensors = written(folder, 2, *records)
    assert tensors["class_shares"].shape == (2, 2, 3)
    found = read_weights(tensors, 2)
    np.testing.assert_array_equal(found.by_class(1), 3 * shares)
    np.testing.assert_array_equal(found.dense()[1], PAIR)
    assert not [path for path in folder.path.iterdir() if path.suffix == ".f32"]
    tensors["class_shares"] = tensors["class_shares"][:, :1]
    with pytest.raises(ValueError, match="class shares"):
        read_weights(tensors, 2)


def test_shares_by_class_are_those_of_who_was_fused(folder):
    pair, three = torch.rand(2, 5), torch.rand(3, 5)
    records = [
        replace(some(2, PAIR, 3, 9), class_shares=pair),
        replace(some(4, THREE, 0, 3, 7), class_shares=three),
    ]
    found = read_weights(written(folder, 10, *records), 10)
    np.testing.assert_array_equal(found.class_shares[1], three)
    np.testing.assert_array_equal(found.by_class(0)[[3, 9]], pair)
    assert found.by_class(0).sum() == pytest.approx(float(pair.sum()))
    again = round_file.load(round_file.dump(records[0]))
    assert torch.equal(again.class_shares, pair)
    torn = replace(records[0], class_shares=three)
    with pytest.raises(ValueError, match="weights"):
        round_file.load(round_file.dump(torn))


def test_rounds_of_an_older_checkpoint_go_with_those_after_it(folder):
    """Older records hold [K, K], with zeros for the clients that were not fused."""
    older = torch.zeros(3, 3)
    older[:2, :2] = PAIR
    tensors = written(folder, 3, RoundRecord(1, (), older), some(2, PAIR, 0, 2))
    np.testing.assert_array_equal(read_weights(tensors, 3).dense()[0], older)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("counts", [2, 4]),
        ("counts", [0, 5]),
        ("clients", [3, 3, 0, 3, 7]),
        ("clients", [3, 9, 0, 3, MANY]),
        ("clients", [-1, 9, 0, 3, 7]),
        ("rounds", [2]),
        ("weights", [0.0]),
    ],
)
def test_what_does_not_hold_together_is_refused(folder, name, value):
    tensors = written(folder, MANY, some(2, PAIR, 3, 9), some(4, THREE, 0, 3, 7))
    tensors[name] = np.array(value, dtype=tensors[name].dtype)
    with pytest.raises(ValueError, match="weights"):
        read_weights(tensors, MANY)


def test_a_record_names_the_clients_of_its_weights():
    record = some(3, PAIR, 3, 9)
    again = round_file.load(round_file.dump(record))
    assert again.weight_clients.tolist() == [3, 9]
    assert torch.equal(again.weights, PAIR)
    torn = replace(record, weight_clients=torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="weights"):
        round_file.load(round_file.dump(torn))
