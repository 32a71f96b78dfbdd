"""Domains: several data sets of the same classes, each the data of some clients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedfuse.data.arrays import from_arrays
from fedfuse.data.public import HeldOut
from fedfuse.data.raw import Domain
from fedfuse.data.sources.breast_cancer import breast_cancer
from fedfuse.data.sources.domains import domains
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.data.split import federate
from fedfuse.errors import DataError, ParameterError
from fedfuse.partition import Dirichlet, Iid


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


def flat(value: int, *, train: int = 90, test: int = 30, names=("a", "b", "c")):
    """Return images whose every pixel is ``value``, plus the class."""

    def pool(size: int):
        y = np.arange(size) % len(names)
        return (np.zeros((size, 4, 4)) + value + y[:, None, None]).astype(np.uint8), y

    held = pool(test) if test else (None, None)
    return from_arrays(*pool(train), *held, name=f"v{value}", class_names=names)


def split(raw, **changed):
    keys = {"num_clients": 4, "partitioner": Iid(), "public": HeldOut(30), "seed": 0}
    return federate(raw, **keys | changed)


def pixels(samples, index) -> set[int]:
    return set((np.asarray(samples.inputs[index])[:, 0, 0, 0] // 50 * 50).tolist())


def test_a_client_has_trains_on_and_is_tested_on_its_domain_alone():
    raw = domains([flat(50), lambda: flat(100), flat(150, train=200, test=60)])
    assert raw.domains == (Domain("v50", 90, 30), Domain("v100", 90, 30), Domain("v150", 200, 60))
    assert raw.name == "v50+v100+v150"
    data = split(raw, num_clients=7)
    assert data.domains == ("v50",) * 2 + ("v100",) * 2 + ("v150",) * 3
    for client, name in zip(data.clients, data.domains, strict=True):
        mine = {int(name[1:])}
        assert pixels(data.train, client.train) == pixels(data.train, client.val) == mine
        assert pixels(data.own_pool, client.test) == mine
        begin, of_file = {50: 0, 100: 90, 150: 180}[int(name[1:])], data.train_rows[client.train]
        assert (of_file == client.train - begin).all(), "rows are those of the domain's own file"
    everything = np.arange(len(data.test))
    assert pixels(data.test, everything) == {50, 100, 150} == pixels(data.public, np.arange(30))
    assert np.bincount(data.test.labels).tolist() == [40, 40, 40]


def test_a_domain_without_a_test_split_gives_some_of_its_rows():
    raw = domains([flat(50), flat(100, test=0), flat(150)])
    data = split(raw, num_clients=3, test_fraction=0.2)
    assert len(data.own_pool) == 30 + 18 + 30
    for client, name in zip(data.clients, data.domains, strict=True):
        assert pixels(data.own_pool, client.test) == {int(name[1:])}
    middle = data.clients[1]
    tested = data.own_test_rows[middle.test]
    trained = data.train_rows[np.concatenate([middle.train, middle.val])]
    assert not set(tested.tolist()) & set(trained.tolist())
    assert max(tested) < 90


def test_the_balanced_test_has_as_much_of_each_domain_as_there_is():
    raw = domains([flat(50, test=30), flat(100, test=300), flat(150, test=300)])
    test = split(raw, max_test_samples=120).test
    counts = {
        value: int((test.inputs[:, 0, 0, 0] // 50 * 50 == value).sum()) for value in (50, 100, 150)
    }
    assert counts == {50: 30, 100: 45, 150: 45}
    assert np.bincount(test.labels).tolist() == [40, 40, 40]


def test_classes_are_the_same_by_name_however_they_are_numbered():
    one, other = flat(50), flat(100, names=("b", "a", "c"))
    raw = domains([one, other])
    assert raw.class_names == ("a", "b", "c")
    assert raw.train.labels[90:96].tolist() == [1, 0, 2, 1, 0, 2]
    numbered = domains([one, flat(100, names=("0", "1", "2"))])
    assert numbered.train.labels[90:93].tolist() == [0, 1, 2]


def test_the_partitioner_deals_each_domain_to_its_clients():
    raw = domains([flat(50, train=400), flat(100, train=400)])
    alone = split(raw, num_clients=2).class_counts()
    assert alone.max(axis=1).max() <= 1.2 * alone.min(axis=1).min(), "one has all of its domain"
    dealt = split(raw, partitioner=Dirichlet(alpha=0.1, min_samples=5)).class_counts()
    assert dealt.max() > 5 * max(1, dealt.min())


def test_the_same_seed_deals_the_same_and_the_hash_knows_the_domains():
    raw = domains([flat(50), flat(100)])
    assert split(raw).fingerprint == split(raw).fingerprint
    apart = split(raw)
    whole = split(replace(raw, domains=()))
    assert apart.fingerprint != whole.fingerprint


WRONG = {
    "shapes": (
        [flat(50), synthetic(90, 30, 3)],
        r"inputs of one shape.*\[1, 4, 4\] of v50.*image_size",
    ),
    "kinds": ([flat(50), synthetic(90, 30, 3, kind="features")], r"one shape.*float32 \[16\] of"),
    "classes": (
        [flat(50), flat(100, names=("a", "b", "x"))],
        r"v100 has not the classes of v50: got x",
    ),
    "fewer": (
        [flat(50), flat(100, names=("a", "b"))],
        r"v100 has not the classes of v50: got all but c",
    ),
    "more": (
        [flat(50), flat(100, names=tuple("abcd"))],
        r"has not the classes of v50: got d, allowed: a",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_domains_that_do_not_fit_together_are_one_message(name):
    parts, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        domains(parts)


def test_what_is_no_list_of_domains_is_refused():
    for wrong in ([], [flat(50)], "mnist5k"):
        with pytest.raises(ParameterError, match="two data sets or more"):
            domains(wrong)
    both = domains([flat(50), flat(100)])
    with pytest.raises(DataError, match="put together from domains itself"):
        domains([both, flat(150)])
    table = breast_cancer()
    other = replace(table, columns=tuple(reversed(table.columns)))
    with pytest.raises(DataError, match="tables with other columns"):
        domains([table, other])
    assert domains([flat(50), flat(50)]).domains[1].name == "v50-2"


def test_more_domains_than_clients_and_rows_of_a_file_are_refused(tmp_path):
    raw = domains([flat(50), flat(100)])
    with pytest.raises(DataError, match=r"more domains than clients.*2 domains, num_clients=1"):
        split(raw, num_clients=1)

    def named(labels, num_clients, rng):
        return np.array_split(np.arange(len(labels)), num_clients)

    named.deals_rows = True
    with pytest.raises(DataError, match="does not say which domain's file"):
        split(raw, partitioner=named)
