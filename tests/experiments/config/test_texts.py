"""A path is the text that the user wrote: on the command line, in sweeps and in YAML files."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from experiments.config import compose
from experiments.config.paths import absolute
from experiments.config.texts import FileConfigSource, as_text
from experiments.runs.resume import resumed_config
from fedfuse.errors import ConfigError

NAMES = [
    "2024", "2024_05_01", "2024-05-01", "0x1f", "007", "1e3", ".5", "nan", "inf", "on", "off",
    "yes", "true", "alpha=0.5", "data (1)", "[old]", "{a}", "a,b", "50%off", "it's", 'say "x"',
    "back\\slash", "end\\", "a\\'b", "Zähler größe", "数据", "~x", "~", "a: b", "#1", "$x", "'half",
    "C:\\data", "a\nb", "!", "&", "*", "a|b",
]  # fmt: skip
NPZ = ["dataset=npz", "dataset.path=x.npz"]


def composed(lines, config_dir=None, multirun=False):
    hydra = compose.open_hydra(config_dir)
    return compose.check(hydra, compose.expand(hydra, lines, multirun=multirun), multirun=multirun)[
        1
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_comes_through_as_it_is_and_may_be_read_again(name):
    parser = OverridesParser.create()
    for key in ("dataset.path", "public.dataset.path", "partitioner.path", "hydra.run.dir",
                "engine.credentials", "reporter.reporters.0.log_dir"):  # fmt: skip
        line = as_text(f"{key}={name}", multirun=False)
        assert parser.parse_override(line).value() == name
        assert as_text(line, multirun=False) == line
    listed = as_text(f"sites.paths=[{as_quoted(name)},x]", multirun=False)
    assert parser.parse_override(listed).value() == [name, "x"]


def as_quoted(name):
    return as_text(f"dataset.path={name}", multirun=False).partition("=")[2]


def test_what_is_no_path_is_left_to_hydra():
    for line in ("seed=1,2", "partitioner.alpha=1e3", "num_clients=2024", "~dataset.path",
                 "dataset.path=null", "dataset.path='a, b'", 'dataset.path="2024"',
                 "dataset=npz", "sites.paths=[]"):  # fmt: skip
        assert as_text(line, multirun=False) == line


def test_paths_reach_the_configuration_as_text():
    (cfg,) = composed(["dataset=npz", "dataset.path=2024_05_01", "dataset.name=1e3"])
    assert (cfg.dataset.path, cfg.dataset.name) == ("2024_05_01", "1e3")
    (cfg,) = composed([*NPZ, "sites=own", "sites.paths=[2024, on ,null,'a,b',d (1).npz]"])
    assert list(cfg.sites.paths) == ["2024", "on", None, "a,b", "d (1).npz"]
    (cfg,) = composed(["hydra.run.dir=2024_05_01", "dataset=hub", "dataset.revision=12e5"])
    assert (cfg.hydra.run.dir, cfg.dataset.revision) == ("2024_05_01", "12e5")
    (cfg,) = composed(["dataset=npz", "dataset.path=${oc.env:HOME}/x"])
    assert cfg.dataset.path.startswith("/")


def test_the_yaml_of_a_run_reads_back_to_the_same_text():
    import yaml

    for name in NAMES:
        text = OmegaConf.to_yaml(OmegaConf.create({"path": name}))
        assert yaml.safe_load(text)["path"] == name
        assert OmegaConf.create(text).path == name


def test_commas_separate_paths_in_a_sweep():
    lines = ["dataset=npz", "dataset.path=1e3,'a,b',data (1)"]
    swept = composed(lines, multirun=True)
    assert [cfg.dataset.path for cfg in swept] == ["1e3", "a,b", "data (1)"]
    lines = ["dataset=npz", "dataset.path=choice(on)", "sites=own", "sites.paths=[2024],[1e3,on]"]
    swept = composed(lines, multirun=True)
    assert [list(cfg.sites.paths) for cfg in swept] == [["2024"], ["1e3", "on"]]
    assert [cfg.dataset.path for cfg in swept] == ["on", "on"]


def test_a_forgotten_m_is_told_where_the_paths_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["dataset=npz", "dataset.path=a.npz,b.npz"]
    assert composed(line)[0].dataset.path == "a.npz,b.npz"
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match="Add -m"):
        composed(line)
    (tmp_path / "a.npz,b.npz").touch()
    assert composed(line)[0].dataset.path == "a.npz,b.npz"


@pytest.mark.parametrize("name", ["2024", "2024_05_01", "1e3", "on", ".nan", "0o17", "12:30:45"])
def test_every_yaml_file_of_the_users_keeps_paths_as_text(tmp_path, name):
    (tmp_path / "mine.yaml").write_text(
        f"path: {name}\npaths: [{name}, null]\nnested:\n  log_dir: {name}\nnumber: {name}\n"
    )
    cfg = FileConfigSource("user", f"file://{tmp_path}").load_config("mine").config
    assert (cfg.path, cfg.nested.log_dir, list(cfg.paths)) == (name, name, [name, None])
    assert not isinstance(cfg.number, str) or name == "0o17"


def test_paths_in_the_users_options_and_experiments_are_text(tmp_path):
    for group in ("dataset", "experiment"):
        (tmp_path / group).mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text(
        "_target_: fedfuse.data.sources.npz.npz\npath: 2024_05_01\nname: 1e3\n"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /dataset: npz\n"
        "hydra:\n  sweeper:\n    params:\n      dataset.path: 2024_05_01\n"
    )
    (cfg,) = composed(["dataset=mine"], tmp_path)
    assert (cfg.dataset.path, cfg.dataset.name) == ("2024_05_01", "1e3")
    (cfg,) = composed(["experiment=mine"], tmp_path, multirun=True)
    assert cfg.dataset.path == "2024_05_01"


def test_a_path_that_is_no_text_is_one_message():
    with pytest.raises(ConfigError, match=r"public.dataset.path must be text: got 2024"):
        composed(["public=external", "public.dataset={_target_: fedfuse.x, path: 2024}"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("optimizer.note=größe", "which holds ö ß,"),
        ("optimizer.note=a(b", "which holds (,"),
    ],
)
def test_only_characters_that_are_there_are_blamed(line, words):
    with pytest.raises(ConfigError, match="cannot read") as caught:
        composed([line])
    assert words in str(caught.value)


def test_bytes_that_are_no_text_are_refused_before_anything_runs():
    with pytest.raises(ConfigError, match=r"'dataset.path=Z\\udce4hler' holds bytes"):
        composed(["dataset=npz", "dataset.path=Z\udce4hler"])


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-is-called-so/x"])
def test_a_path_that_cannot_be_there_is_one_message(name, capsys):
    from experiments.run import main

    assert main(["dataset=npz", f"dataset.path={name}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (r"dataset.path=a\${x}b", r"dataset\.path"),
        (r"dataset.path=a\${seed}b", r"dataset\.path"),
        (r"sites.paths=[a,'\${x}']", r"sites\.paths\.1"),
        (r"dataset.name='\${x}'", r"dataset\.name"),
        (r"optimizer._target_='\${x}'", r"optimizer\._target_"),
        (r"engine.credentials=\${x}", r"engine\.credentials"),
    ],
)
def test_what_would_be_a_reference_when_it_is_read_again_is_one_message(line, key):
    more = ["sites=own"] if key.startswith("sites") else []
    more += ["engine=deployment"] if key.startswith("engine") else []
    with pytest.raises(ConfigError, match=rf"{key} holds a '\$\{{', .*got .*\$\{{") as told:
        composed([*(NPZ[:1] if "dataset.path" in line else NPZ), *more, line])
    assert told.value.next_step
    assert ("link" in told.value.next_step) is not (".name" in line or "_target_" in line)


def test_so_is_a_relative_path_in_such_a_folder_and_one_that_a_run_is_resumed_with(
    tmp_path, monkeypatch
):
    folder = tmp_path / "a${x}b"
    folder.mkdir()
    (folder / "d.npz").touch()
    (cfg,) = composed([*NPZ])
    monkeypatch.chdir(folder)
    own = compose.own_keys(cfg)
    own.dataset.path = "d.npz"
    with pytest.raises(ConfigError, match=r"dataset\.path holds a '\$\{'"):
        absolute(own)
    written = OmegaConf.to_container(compose.own_keys(cfg), resolve=True)
    for given in (r"dataset.path=a\${x}b", "dataset.path=a${x}b"):
        with pytest.raises(ConfigError, match=r"dataset\.path holds a '\$\{'"):
            resumed_config(written, tmp_path / "config.yaml", [given], compose.open_hydra())
