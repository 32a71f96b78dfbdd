"""Sites with data of their own: what each owns, who knows of it, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedfuse.data.public import HeldOut, Whole
from fedfuse.data.raw import Decoded, RawDataset, describe
from fedfuse.data.sites import OwnData, Site, federate_sites
from fedfuse.data.sources.local import local
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import DataError, DataWarning, ParameterError
from fedfuse.partition import Fixed
from fedfuse.types import Samples
from server.reporters.partition_file import SPLITS, partition_columns

CLASSES = tuple("0123456789")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def whole() -> RawDataset:
    return synthetic(num_train=1200, num_test=200)


@pytest.fixture(scope="module")
def shared(whole) -> RawDataset:
    return describe("shared", Decoded(rows(whole, slice(0, 100)), whole.test, CLASSES))


def rows(raw: RawDataset, which: slice) -> Samples:
    return Samples(raw.train.inputs[which], raw.train.labels[which])


def own(whole: RawDataset, train: slice, test: slice | None = None) -> RawDataset:
    held = None if test is None else rows(whole, test)
    return describe("own", Decoded(rows(whole, train), held, CLASSES))


@pytest.fixture
def sites(whole) -> list[Site]:
    return [
        Site(own(whole, slice(100, 300)), (0,)),
        Site(own(whole, slice(300, 600), slice(600, 700)), (1,)),
        Site(own(whole, slice(700, 1200)), (2, 3)),
    ]


def deal(labels, num_clients, rng):
    return np.array_split(rng.permutation(len(labels)), num_clients)


def federate(shared, sites, **changes):
    settings = {
        "partitioner": deal, "num_clients": 4, "public": Whole(), "seed": 0, "batch_size": 8,
        "val_fraction": 0.1, "test_fraction": 0.2,
    }  # fmt: skip
    return federate_sites(shared, sites, **(settings | changes))


def content(samples: Samples, index) -> set[bytes]:
    return {samples.inputs[i].tobytes() for i in index}


def test_a_client_owns_its_sites_samples_and_nothing_of_another(shared, sites):
    data = federate(shared, sites)
    for site in sites:
        pools = [p for p in (site.raw.train, site.raw.test) if p is not None]
        everything = set().union(*(content(p, range(len(p))) for p in pools))
        theirs = [data.clients[i] for i in site.client_ids]
        used = [part for c in theirs for part in (c.train, c.val, c.test)]
        assert set().union(*(content(data.train, part) for part in used)) <= everything
        owned = np.concatenate([part for c in theirs for part in (c.train, c.val)])
        assert len(np.unique(owned)) == len(owned)
        for client in theirs:
            assert data.own_pool is data.train
            assert not set(client.test) & set(owned), "tested on what was trained on"
    assert len(data.clients[1].train) + len(data.clients[1].val) == 300, "all but its test split"
    assert len(data.clients[0].train) + len(data.clients[0].val) == 160, "a fifth held out"


def test_the_public_set_and_the_common_test_pool_are_the_shared_ones(shared, sites):
    data = federate(shared, sites)
    assert np.array_equal(data.public.inputs, shared.train.inputs)
    assert np.array_equal(data.test.inputs, shared.test.inputs)
    assert (data.mean, data.std) == (shared.mean, shared.std)


def test_a_host_with_one_site_sees_its_clients_as_one_with_all_sites_does(shared, sites):
    every = federate(shared, sites)
    for site in sites:
        alone = federate(shared, [site])
        for client in every.clients:
            mine, theirs = alone.clients[client.client_id], client
            if client.client_id not in site.client_ids:
                assert not len(mine.train) + len(mine.val) + len(mine.test)
                continue
            for part in ("train", "val", "test"):
                a, b = getattr(mine, part), getattr(theirs, part)
                assert np.array_equal(alone.train.inputs[a], every.train.inputs[b])
                assert np.array_equal(alone.train.labels[a], every.train.labels[b])


def test_hosts_agree_on_what_is_shared_and_only_on_that(shared, sites, whole):
    everywhere = [federate(shared, held) for held in (sites, sites[:1], [])]
    assert len({data.common_hash for data in everywhere}) == 1
    assert len({data.fingerprint for data in everywhere}) == 3
    other = federate(own(whole, slice(0, 101), slice(600, 700)), [])
    assert other.common_hash != everywhere[0].common_hash


def test_a_server_without_sites_knows_the_shapes_and_nobodys_samples(shared):
    data = federate(shared, [])
    assert (len(data.train), data.input_shape, data.num_clients) == (0, (1, 8, 8), 4)
    assert not data.class_counts().any()


def test_a_partition_by_rows_is_of_one_sites_file(shared, sites, tmp_path):
    parts = [list(range(120)), list(range(120, 190))]
    (tmp_path / "p.json").write_text(json.dumps(parts))
    fixed = Fixed(tmp_path / "p.json")
    with pytest.raises(DataError, match="which site's file it means: got Fixed with several"):
        federate(shared, sites, partitioner=fixed)
    (site,) = [site for site in sites if site.raw.test is None][:1]
    alone = Site(site.raw, (0, 1))
    with pytest.warns(DataWarning, match="of the 190 rows .* left out, .* test samples"):
        data = federate(shared, [alone], partitioner=fixed, num_clients=2)
    for client, part in zip(data.clients, parts, strict=True):
        owned = np.union1d(client.train, client.val)
        assert set(owned) <= set(part)
        assert len(owned) > 0.6 * len(part)


def test_what_is_written_of_sites_are_rows_of_each_sites_own_file(shared, sites):
    data = federate(shared, sites)
    columns = partition_columns(data)
    for site in sites:
        test = site.raw.train if site.raw.test is None else site.raw.test
        mine = np.isin(columns["client_ids"], site.client_ids)
        for split in ("train", "val", "test"):
            rows = columns["index"][mine & (columns["splits"] == SPLITS.index(split))]
            pool = test if split == "test" else site.raw.train
            used = [getattr(data.clients[i], split) for i in site.client_ids]
            there = data.train.inputs[np.concatenate(used)]
            np.testing.assert_array_equal(pool.inputs[rows], there)


def test_the_partitioner_splits_a_site_among_its_clients_and_decides_nothing_else(shared, sites):
    def halves(labels, num_clients, rng):
        assert (len(labels), num_clients) == (400, 2), "only the site with two clients is dealt out"
        return [np.arange(100), np.arange(100, 400)]

    data = federate(shared, sites, partitioner=halves)
    sizes = [len(c.train) + len(c.val) for c in data.clients]
    assert sizes == [160, 300, 100, 300]


def test_classes_are_matched_by_name(whole):
    names = ("cat", "dog", "owl")
    keep = whole.train.labels < 3
    pool = Samples(whole.train.inputs[keep], whole.train.labels[keep])
    shared = describe("shared", Decoded(pool, pool, names))
    without_cat = Samples(pool.inputs[pool.labels > 0], pool.labels[pool.labels > 0] - 1)
    site = Site(describe("own", Decoded(without_cat, None, ("dog", "owl"))), (0,))
    data = federate(shared, [site], num_clients=1, public=HeldOut(30))
    assert sorted(set(data.train.labels)) == [1, 2]
    stranger = Site(describe("own", Decoded(without_cat, None, ("dog", "eel"))), (0,))
    with pytest.raises(DataError, match="eel"):
        federate(shared, [stranger], num_clients=1, public=HeldOut(30))


def test_what_does_not_fit_is_refused(shared, sites, whole):
    larger = synthetic(num_train=200, num_test=0, image_size=9)
    with pytest.raises(DataError, match="not laid out"):
        federate(shared, [Site(larger, (0,))])
    with pytest.raises(DataError, match="fewer training samples than one batch"):
        federate(shared, [Site(own(whole, slice(100, 130)), (0,)), *sites[1:]], batch_size=64)


def test_paths_name_a_file_or_a_folder_of_each_kind(tmp_path, whole):
    np.savez(tmp_path / "a.npz", x=whole.train.inputs, y=whole.train.labels)
    for label in ("cat", "dog"):
        (tmp_path / "b" / label).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((8, 8), 20 * i, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "b" / label / f"{i}.png")
    found = OwnData([str(tmp_path / "a.npz"), None, str(tmp_path / "b")]).open(num_clients=6)
    assert [site.client_ids for site in found] == [(0, 1), (4, 5)]
    assert found[1].raw.class_names == ("cat", "dog")
    assert OwnData().open(3) == []
    with pytest.raises(DataError, match="no data at"):
        local(tmp_path / "nothing")
    with pytest.raises(DataError, match="more sites than clients"):
        OwnData([str(tmp_path / "a.npz")] * 3).open(num_clients=2)
    with pytest.raises(ParameterError, match="list of paths"):
        OwnData(str(Path("a.npz")))
