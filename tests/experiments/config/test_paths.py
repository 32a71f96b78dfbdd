"""Paths that mean the same wherever a run goes on."""

from omegaconf import OmegaConf

from experiments.config.paths import absolute, settled

CONFIG = {
    "seed": 0,
    "dataset": {"_target_": "a.b", "path": "a.npz", "name": "a.npz", "image_size": None},
    "sites": {"paths": ["x", None, "y.npz"], "image_size": 8},
    "public": {"size": 5, "dataset": {"path": "sub/../a.npz"}},
    "partitioner": {"path": "p.json", "alpha": 0.5},
    "engine": {"credentials": "keys", "address": "x"},
    "reporter": {"reporters": [{"log_dir": "logs"}, {"tracking_uri": "http://host/x"}]},
    "method": {"name": "a.npz", "path": "a.npz"},
}


def test_relative_paths_become_absolute_and_nothing_else_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "p.json", "y.npz"):
        (tmp_path / name).touch()
    for name in ("x", "keys", "sub"):
        (tmp_path / name).mkdir()
    at = str(tmp_path)
    wanted = {
        **CONFIG,
        "dataset": {**CONFIG["dataset"], "path": f"{at}/a.npz"},
        "sites": {"paths": [f"{at}/x", None, f"{at}/y.npz"], "image_size": 8},
        "public": {"size": 5, "dataset": {"path": f"{at}/sub/../a.npz"}},
        "partitioner": {"path": f"{at}/p.json", "alpha": 0.5},
        "engine": {"credentials": f"{at}/keys", "address": "x"},
        "reporter": {"reporters": [{"log_dir": f"{at}/logs"}, {"tracking_uri": "http://host/x"}]},
    }
    assert settled(CONFIG) == wanted
    cfg = OmegaConf.create(CONFIG)
    assert OmegaConf.to_container(absolute(cfg)) == wanted
    assert OmegaConf.to_container(cfg) == CONFIG
    assert settled(wanted) == wanted


def test_a_home_folder_is_written_out_and_what_is_missing_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.npz").touch()
    config = {"dataset": {"path": "~/a.npz"}, "partitioner": {"path": "none.json"}}
    assert settled(config) == {
        "dataset": {"path": f"{tmp_path}/a.npz"},
        "partitioner": {"path": "none.json"},
    }
    for uri in ("databricks", "sqlite:///x.db", "http://host:5000"):
        assert settled({"reporter": {"tracking_uri": uri}}) == {"reporter": {"tracking_uri": uri}}
