import json
import multiprocessing
import os

import numpy as np
import pytest

from fedfuse.data import cache
from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import Decoded
from fedfuse.errors import DataError
from fedfuse.types import Samples


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("FEDFUSE_CACHE", str(path))
    return path


def pool(n=8, value=0):
    inputs = np.full((n, 1, 2, 2), value, dtype=np.uint8)
    inputs[0] = 255
    return Samples(inputs, np.arange(n) % 2)


def decode():
    return Decoded(pool(), pool(4, 9), ("a", "b"))


def never():
    raise AssertionError("decoded a second time")


def test_the_second_opening_maps_what_the_first_decoded(folder):
    first = cached("my/set", "key", decode)
    again = cached("my/set", "key", never)
    np.testing.assert_array_equal(again.train.inputs, pool().inputs)
    np.testing.assert_array_equal(again.test.inputs, pool(4, 9).inputs)
    assert (again.mean, again.std, again.fingerprint) == (first.mean, first.std, first.fingerprint)
    assert again.class_names == ("a", "b")
    for array in (again.train.inputs, again.train.labels, again.test.inputs):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert [entry.name for entry in folder.iterdir()] == ["my-set-key"]


def test_the_default_folder_is_in_the_home(monkeypatch, tmp_path):
    monkeypatch.delenv("FEDFUSE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "fedfuse"


def test_the_key_follows_content_name_and_parameters_not_place_or_time(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abcd")
    two.write_bytes(b"abcd")
    base = cache_key("s", {"p": 1}, {"f": one})
    assert cache_key("s", {"p": 1}, {"f": two}) == base
    changed = {
        cache_key("t", {"p": 1}, {"f": one}),
        cache_key("s", {"p": 2}, {"f": one}),
        cache_key("s", {"p": 1}, {"g": one}),
        cache_key("s", {"p": 1}, {"f": one, "g": two}),
    }
    before = one.stat()
    one.write_bytes(b"abcX")  # same size and, below, the same time
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed.add(cache_key("s", {"p": 1}, {"f": one}))
    assert base not in changed
    assert len(changed) == 5
    with pytest.raises(DataError, match="cannot be read"):
        cache_key("s", {}, {"f": tmp_path / "none"})


def test_a_new_decode_version_misses(monkeypatch, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    old = cache_key("s", {}, {"f": tmp_path / "f"})
    monkeypatch.setattr(cache, "DECODE_VERSION", cache.DECODE_VERSION + 1)
    assert cache_key("s", {}, {"f": tmp_path / "f"}) != old


@pytest.mark.parametrize("damage", ["truncate", "meta", "missing", "pickle"])
def test_a_damaged_entry_is_decoded_again(folder, damage):
    cached("s", "key", decode)
    entry = folder / "s-key"
    if damage == "truncate":
        data = (entry / "train_inputs.npy").read_bytes()
        (entry / "train_inputs.npy").write_bytes(data[:-5])
    elif damage == "meta":
        (entry / "meta.json").write_text("{")
    elif damage == "missing":
        (entry / "test_labels.npy").unlink()
    else:
        np.save(entry / "train_labels.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.testing.assert_array_equal(cached("s", "key", decode).train.inputs, pool().inputs)
    cached("s", "key", never)
    assert len(list(folder.iterdir())) == 1


def test_a_failing_decode_leaves_nothing_behind(folder):
    def fail():
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        cached("s", "key", fail)
    assert list(folder.iterdir()) == []


def test_an_unwritable_cache_names_the_variable_before_decoding(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="FEDFUSE_CACHE at a writable folder"):
        cached("s", "key", never)


def test_a_full_disk_is_one_clear_error(monkeypatch, folder):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", full)
    with pytest.raises(DataError, match="No space left on device"):
        cached("s", "key", decode)
    assert list(folder.iterdir()) == []


def _race(barrier, queue):
    def slow():
        barrier.wait(300)  # both processes have missed the cache by now
        return decode()

    raw = cached("s", "key", slow)
    queue.put((raw.fingerprint, int(raw.train.inputs.sum())))


def test_two_processes_that_decode_at_once_both_succeed(folder):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_race, args=(barrier, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=20) for _ in workers]
    for worker in workers:
        worker.join(300)
    assert answers[0] == answers[1]
    assert [entry.name for entry in folder.iterdir()] == ["s-key"]
    meta = json.loads((folder / "s-key" / "meta.json").read_text())
    assert meta["fingerprint"] == answers[0][0]
