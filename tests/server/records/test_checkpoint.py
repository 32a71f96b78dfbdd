"""Checkpoints appear whole or not at all, and what is damaged is not believed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import save

from fedfuse.errors import FedfuseError
from fedfuse.failure import Failure
from fedfuse.fusion.ktpfl import KTpFL
from fedfuse.stateful import collect, give_back
from fedfuse.types import MetricRow, RoundRecord
from server.fusion.byte_budget import ByteBudget
from server.records import manifest as manifest_of
from server.records import round_file
from server.records.checkpoint import Checkpoints


def made(round_: int) -> RoundRecord:
    rows = (
        MetricRow(round_, 0, "local", "accuracy_own", 0.1 + 0.2),
        MetricRow(round_, -1, "fuse", "x", -0.0),
    )
    failure = Failure(1, round_, "train", "out of memory", "", is_mistake=False)
    return RoundRecord(round_, rows, torch.rand(2, 2), {"train": 0.25}, (failure,))


@pytest.fixture
def kept(tmp_path):
    return Checkpoints(tmp_path / "checkpoint", every=1, keep=2, identity={"seed": "0"})


def fill(kept: Checkpoints, rounds: int) -> None:
    for round_ in range(1, rounds + 1):
        kept.note("knfu", made(round_))
        states = {"0/model/w": torch.full((3,), float(round_)), "1/extra/n": torch.tensor(round_)}
        kept.save("knfu", round_, [save(states)], {"plan.link/n": torch.tensor([round_])})


def test_a_record_survives_to_the_bit():
    record = made(3)
    right = {"accuracy_own": torch.tensor([[255, 1], [0, 2]], dtype=torch.uint8)}
    again = round_file.load(round_file.dump(replace(record, right=right)))
    assert torch.equal(again.weights, record.weights)
    assert torch.equal(again.right["accuracy_own"], right["accuracy_own"])
    assert replace(again, weights=None, right=None) == replace(record, weights=None)
    assert round_file.load(round_file.dump(record)).right is None


def test_what_is_saved_is_what_is_read_and_old_ones_are_pruned(kept):
    assert kept.latest() is None
    fill(kept, 4)
    saved = kept.latest()
    assert (saved.arm, saved.round) == ("knfu", 4)
    assert [record.round for record in saved.records["knfu"]] == [1, 2, 3, 4]
    assert saved.clients[0]["model/w"].tolist() == [4, 4, 4]
    assert saved.clients[1]["extra/n"].item() == 4
    assert saved.memory["plan.link/n"].tolist() == [4]
    assert len([p for p in kept.folder.iterdir() if p.name.isdigit()]) == 2


def states(round_: int, *ids: int) -> bytes:
    return save({f"{i}/model/w": torch.tensor([float(round_), i]) for i in ids})


def differ(kept: Checkpoints, round_: int, changed: set[int], known: range) -> frozenset[int]:
    """Save a round in which some clients changed, two clients a file; return who was written."""
    found = kept.difference("knfu", changed, known)
    wanted = sorted(found.wanted)
    pairs = [states(round_, *wanted[at : at + 2]) for at in range(0, len(wanted), 2)]
    kept.note("knfu", made(round_))
    kept.save("knfu", round_, pairs, {}, found.carried)
    return found.wanted


def when(kept: Checkpoints) -> dict[int, float]:
    """Return the round of which each client's state is read."""
    return {i: float(state["model/w"][0]) for i, state in kept.latest().clients.items()}


def test_only_who_changed_is_written_again(kept):
    assert differ(kept, 1, set(range(4)), range(4)) == {0, 1, 2, 3}
    assert differ(kept, 2, {0}, range(4)) == {0}
    assert differ(kept, 3, {3, 4}, range(5)) == {3, 4}
    assert when(kept) == {0: 2, 1: 1, 2: 1, 3: 3, 4: 3}
    # The file of clients 2 and 3 still counts for 2; that of 0 and 1 as well.
    names = sorted(path.name.split(".")[0] for path in (kept.folder / "states").iterdir())
    assert names == ["000001-0", "000001-1", "000002-0", "000003-0"]


def test_without_the_newest_the_one_before_is_whole(kept):
    for round_, changed in enumerate([set(range(4)), {0, 3}, {0, 1}, {0}], 1):
        differ(kept, round_, changed, range(4))
    shutil.rmtree(kept.folder / "000004")
    assert when(kept) == {0: 3, 1: 3, 2: 1, 3: 2}
    assert not (kept.folder / "states" / "000004-0.safetensors").exists()
    again = replace(kept, every=1)  # another process
    assert differ(again, 4, {2}, range(4)) == {2}
    assert when(again) == {0: 3, 1: 3, 2: 4, 3: 2}


def test_what_lies_on_disk_is_at_most_twice_what_counts(kept):
    """A file of which less than half counts is written again; here one of three clients."""
    kept.note("knfu", made(1))
    kept.save("knfu", 1, [states(1, 0, 1, 2)], {})
    assert differ(kept, 2, {0, 1}, range(3)) == {0, 1, 2}
    differ(kept, 3, set(), range(3))
    assert not (kept.folder / "states" / "000001-0.safetensors").exists()
    assert when(kept) == {0: 2, 1: 2, 2: 2}


def test_who_remembers_nothing_any_more_is_not_carried_on(kept):
    differ(kept, 1, set(range(4)), range(4))
    differ(kept, 2, {0}, range(3))
    assert when(kept) == {0: 2, 1: 1, 2: 1}


def test_another_arm_begins_with_nobodys_states(kept):
    differ(kept, 1, set(range(4)), range(4))
    assert kept.difference("other", set(), set()).carried == {}
    assert kept.difference("other", {1}, {1, 2}).wanted == {1, 2}


def test_a_checkpoint_of_the_layout_before_is_read_and_then_written_anew(kept):
    differ(kept, 1, {0, 1}, range(2))
    path = kept.folder / "000001" / "manifest.json"
    old = json.loads(path.read_bytes())
    content = states(1, 0, 1)
    (kept.folder / "000001" / "clients-0.safetensors").write_bytes(content)
    del old["states"], old["digest"]
    old["format"], old["files"]["clients-0.safetensors"] = 1, manifest_of.digest(content)
    old["digest"] = manifest_of.digest(json.dumps(old, sort_keys=True).encode())
    path.write_text(json.dumps(old))
    shutil.rmtree(kept.folder / "states")
    assert when(kept) == {0: 1, 1: 1}
    assert differ(kept, 2, {0}, range(2)) == {0, 1}
    assert when(kept) == {0: 2, 1: 2}


@pytest.mark.parametrize(
    "told", [[1, 2, [0]], ["x", 1], None, ["x", 1, ["0"]], ["x", 1, [-1]], ["x", True, [0]]]
)
def test_a_manifest_with_strange_states_is_none(kept, told):
    fill(kept, 2)
    path = kept.folder / "000002" / "manifest.json"
    strange = json.loads(path.read_bytes())
    del strange["digest"]
    strange["states"]["000002-0.safetensors"] = told
    strange["digest"] = manifest_of.digest(json.dumps(strange, sort_keys=True).encode())
    path.write_text(json.dumps(strange))
    assert kept.latest().round == 1


@pytest.mark.parametrize("name", ["000003-0.safetensors", "server.safetensors", "manifest.json"])
@pytest.mark.parametrize("how", ["torn", "bit", "gone"])
def test_a_damaged_one_is_skipped_for_the_one_before(kept, name, how):
    fill(kept, 3)
    file = kept.folder / ("states" if name[0] == "0" else "000003") / name
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    elif how == "torn":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    saved = kept.latest()
    assert saved.round == 2
    assert [record.round for record in saved.records["knfu"]] == [1, 2]
    fill_on = Checkpoints(kept.folder, 1, 2, {"seed": "0"})
    fill_on.note("knfu", made(3))
    fill_on.save("knfu", 3, [], {})
    assert [record.round for record in fill_on.latest().records["knfu"]] == [1, 2, 3]


def test_if_none_is_whole_nothing_is_made_up(kept):
    fill(kept, 2)
    for path in kept.folder.glob("*/manifest.json"):
        path.write_text("{}")
    with pytest.raises(FedfuseError, match="is whole"):
        kept.latest()


def test_anothers_and_a_newer_one_are_refused(kept):
    fill(kept, 2)
    with pytest.raises(FedfuseError, match="another run"):
        replace(kept, identity={"seed": "1"}).latest()
    path = kept.folder / "000002" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest.pop("digest")
    manifest["format"] = manifest_of.FORMAT + 1
    manifest["digest"] = manifest_of.digest(json.dumps(manifest, sort_keys=True).encode())
    path.write_text(json.dumps(manifest))
    with pytest.raises(FedfuseError, match="newer version"):
        kept.latest()


def test_a_full_disk_leaves_the_one_before_as_it_was(kept, monkeypatch):
    fill(kept, 2)
    real, written = os.fsync, []

    def full(handle):
        written.append(handle)
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    kept.note("knfu", made(3))
    with pytest.raises(FedfuseError, match="No space left"):
        kept.save("knfu", 3, [save({"0/model/w": torch.ones(3)})], {})
    monkeypatch.undo()
    assert kept.latest().round == 2
    assert not (kept.folder / ".new").exists()


def test_memory_is_found_through_fields_and_given_back(kept):
    from fedfuse.fusion.controls import Shuffled

    scorer = Shuffled(KTpFL())
    scorer.scorer.restore({"client_ids": torch.tensor([0, 2]), "log_weights": torch.rand(2, 2)})
    flat = collect({"combine": scorer})
    other = Shuffled(KTpFL())
    give_back({"combine": other}, flat)
    assert torch.equal(other.scorer.state()["log_weights"], scorer.scorer.state()["log_weights"])
    with pytest.raises(FedfuseError, match="does not have"):
        give_back({"combine": Shuffled(Shuffled(KTpFL()))}, flat)


def test_memory_under_a_former_name_is_given_back() -> None:
    """A checkpoint of 0.1.0 calls the plan's parts by the names that they had."""

    @dataclass(frozen=True)
    class Plan:
        byte_budget: ByteBudget

    plan = Plan(ByteBudget(100))
    give_back({"plan": plan}, {"plan.purse/spent": torch.tensor([70, 40])})
    assert (plan.byte_budget.spent, plan.byte_budget.largest) == (70, 40)
