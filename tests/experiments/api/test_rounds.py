"""A loop of one's own over the rounds: the same run to the bit, until it decides otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import fedfuse
from fedfuse.errors import ConfigError, FedfuseError
from tests.experiments.api.test_simulate import SMALL, metrics_of

THREE = {key: value for key, value in SMALL.items() if key != "progress"} | {"num_rounds": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rounds")


@pytest.fixture(scope="module")
def whole(folder):
    return fedfuse.simulate(out=folder / "whole", progress=False, **THREE)


def test_a_loop_that_changes_nothing_is_the_run(whole, folder):
    torch.manual_seed(5)
    drawn, seen = torch.rand(3), []
    torch.manual_seed(5)
    loop = fedfuse.rounds(out=folder / "same", **THREE)
    with pytest.raises(ConfigError, match="has not ended"):
        _ = loop.run
    for state in loop:
        seen.append((state.number, state.knowledge is None, state.teachers is None))
        if state.number == 3:
            assert state.knowledge.logits.shape == (3, 100, 10)
            assert state.weights == pytest.approx(torch.from_numpy(whole.weights[1]))
            before = whole.metrics.query("arm == 'local' or round < 3")
            assert len(state.metrics) == len(before)
    assert torch.equal(torch.rand(3), drawn)  # the loop's own random numbers are its own
    assert seen == [(1, True, True), (2, False, False), (3, False, False)]
    assert metrics_of(loop.run.folder) == metrics_of(whole.folder)
    assert loop.run.finished
    assert loop.run.method == "knfu+own"
    assert list(loop) == []


def test_teachers_of_ones_own_are_learnt_from(whole, folder):
    # Nothing but the teacher is learnt from.
    alone = {"client.private_weight": 0, "client.distill_epochs": 30}
    loop = fedfuse.rounds(out=folder / "own", name="wrong", **THREE, **alone)
    for state in loop:
        if state.teachers is not None:
            # Every class but the one that was meant: whoever learns that is wrong.
            targets = torch.roll(state.teachers.targets, 1, dims=-1)
            state.teach(replace(state.teachers, targets=targets))
    assert loop.run.method == "wrong"
    accuracy = "accuracy_global"
    assert loop.run.gain().loc[accuracy, "gain"] < whole.gain().loc[accuracy, "gain"] - 0.2
    np.testing.assert_array_equal(loop.run.weights[0], whole.weights[0])  # before the first change


def test_leaving_the_loop_ends_the_run(folder):
    loop = fedfuse.rounds(out=folder / "left", **THREE)
    for state in loop:
        if state.number == 2:
            break
    assert not loop.run.finished
    assert loop.run.metrics.query("arm == 'knfu+own'")["round"].max() == 1
    with pytest.raises(ConfigError, match="has not finished"):
        loop.run.gain()
    with pytest.raises(ConfigError, match="wrote no checkpoints"):
        fedfuse.simulate(resume=folder / "left")
    fedfuse.rounds(out=folder / "never", **THREE).close()
    assert not (folder / "never").exists()


def test_mistakes_in_a_loop(folder):
    with pytest.raises(ConfigError, match=r"runs in this process.*engine=ray"):
        fedfuse.rounds(engine="ray", **THREE)
    with pytest.raises(ConfigError, match="no 'knfuu'"):
        fedfuse.rounds(method="knfuu")
    loop = fedfuse.rounds(out=folder / "mistakes", **THREE)
    for state in loop:
        if state.number == 1:
            with pytest.raises(FedfuseError, match="nobody to teach in round 1"):
                state.teach(None)
        else:
            teachers = state.teachers
            for wrong, told in (
                (teachers.targets, "takes teachers"),
                (replace(teachers, targets=teachers.targets[:, :5]), r"allowed: targets \[3, 100"),
                (replace(teachers, targets=teachers.targets * torch.nan), "no finite numbers"),
            ):
                with pytest.raises(FedfuseError, match=told):
                    state.teach(wrong)
            break


def test_what_stops_the_run_stops_the_loop(folder):
    def fails(bank, labels):
        raise ValueError("too odd")

    with pytest.raises(FedfuseError, match="too odd"):
        for _ in fedfuse.rounds(out=folder / "fails", scorer=fails, **THREE):
            pass
