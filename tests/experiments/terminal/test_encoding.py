"""Output that a terminal's encoding cannot hold, and users without a home folder."""

from __future__ import annotations

import io
import json
import pwd
import sys
import warnings

import pytest

from experiments.terminal.console import exit_code
from experiments.terminal.encoding import any_character, plain
from fedfuse.data.cache import cache_folder
from fedfuse.errors import DataError, DataWarning, FedfuseError
from fedfuse.files.paths import expand
from server.reporters.folder import RunFolder


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"mnist5k - caf? ? x +0.5 _#\n"),
        ("latin-1", b"mnist5k \xb7 caf? ? \xd7 +0.5 _#\n"),
        ("cp1252", b"mnist5k \xb7 caf? ? \xd7 +0.5 _#\n"),
        ("utf-8", "mnist5k · caf? 猫 × +0.5 ▁█\n".encode()),
    ],
)
def test_a_stream_takes_every_character(monkeypatch, encoding, shown):
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    any_character()
    stream.write("mnist5k · caf\udce9 猫 × +0.5 ▁█\n")  # a file name that is no UTF-8
    stream.flush()
    assert buffer.getvalue() == shown


def test_every_replacement_is_one_character_of_ascii():
    text = "·–−×±≤≥…─│→αβ▁▂▃▄▅▆▇█░▒▓┌┐é猫"
    assert plain(text).isascii()
    assert len(plain(text)) == len(text)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_commands_print_and_complain_in_any_encoding(monkeypatch, encoding):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("out", "err")}
    monkeypatch.setattr(sys, "stdout", streams["out"])
    monkeypatch.setattr(sys, "stderr", streams["err"])

    def command(words):
        sys.stdout.write("▁█ · …\n")
        raise FedfuseError("there is no '猫'")

    assert exit_code(command, []) == 2
    streams["err"].flush()
    assert streams["err"].buffer.getvalue() == b"error: there is no '?'.\n"


def test_the_record_of_a_run_is_utf8_whatever_the_names(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open(overrides=["dataset.path=caf\udce9/ü"])
    folder.fail("nothing at caf\udce9")
    record = json.loads((tmp_path / "run" / "run.json").read_bytes().decode("utf-8"))
    assert record["overrides"] == ["dataset.path=caf\udce9/ü"]
    assert "caf\\udce9" in (tmp_path / "run" / "events.jsonl").read_text("utf-8")


@pytest.fixture
def homeless(monkeypatch):
    """A user without a name and a home folder, as ``docker run --user`` makes them."""

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("FEDFUSE_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def test_without_a_home_folder_the_cache_must_be_named(homeless, monkeypatch, tmp_path):
    with pytest.raises(DataError, match="FEDFUSE_CACHE"):
        cache_folder()
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_tilde_that_means_nothing_is_told(homeless):
    with pytest.raises(FedfuseError, match="no home folder for the"):
        expand("~/digits.npz")
    assert expand("digits.npz").name == "digits.npz"


def test_a_warning_of_fedfuses_own_is_one_line_without_its_source():
    usual = warnings.formatwarning
    try:
        assert exit_code(lambda words: 0, []) == 0
        text = warnings.formatwarning("two copies", DataWarning, __file__, 1)
        assert text == "warning: two copies\n"
        assert __file__ in warnings.formatwarning("old", DeprecationWarning, __file__, 1)
    finally:
        warnings.formatwarning = usual
