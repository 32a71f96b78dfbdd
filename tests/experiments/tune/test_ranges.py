"""Over what methods are tuned, and how settings are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.config import compose
from experiments.config.folder import CONF
from experiments.tune.ranges import DECLARED, KINDS, Range, draws, ranges
from experiments.tune.study import plan, rungs, survivors
from fedfuse.errors import ConfigError

WEIGHT = Range("client.private_weight", 1.0, (0, 0.1, 1, 10))
RATE = Range("optimizer.lr", 0.001, (), 1e-4, 1e-1, log=True)


def searched(method: str) -> dict[str, str]:
    hydra = compose.open_hydra()
    _, (whole,) = compose.check(hydra, [f"method={method}"], multirun=False)
    cfg = compose.own_keys(whole)
    OmegaConf.resolve(cfg)
    found = ranges(cfg, whole.hydra.runtime.choices, [], set(), hydra.config_loader)
    return {one.key: str(one) for one in found}


def test_the_first_trial_is_the_method_as_it_is_and_more_trials_begin_with_fewer() -> None:
    few, many = draws([WEIGHT, RATE], 5), draws([WEIGHT, RATE], 12)
    assert few[0] == {"client.private_weight": "1", "optimizer.lr": "0.001"}
    assert many[:5] == few
    assert len({tuple(trial.values()) for trial in many}) == 12


def test_a_small_space_is_tried_whole_and_only_once() -> None:
    assert sorted(trial[WEIGHT.key] for trial in draws([WEIGHT], 50)) == ["0", "0.1", "1", "10"]


def test_a_logarithmic_range_is_drawn_evenly_over_its_decades() -> None:
    drawn = [float(RATE.drawn(attempt)) for attempt in range(600)]
    assert all(1e-4 <= value <= 1e-1 for value in drawn)
    for low in (1e-4, 1e-3, 1e-2):
        share = sum(low <= value < 10 * low for value in drawn) / 600
        assert 0.25 < share < 0.42  # a third; evenly over the values it would be 0.9 in the last


def test_a_key_is_drawn_alike_in_every_method_and_an_integer_stays_one() -> None:
    steps = Range("scorer.steps", 10, (), 1.0, 20.0)
    assert all(steps.drawn(n).isdigit() for n in range(20))
    alone, beside = draws([RATE], 5), draws([WEIGHT, RATE], 5)
    assert [trial[RATE.key] for trial in alone] == [trial[RATE.key] for trial in beside]


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("fedmd", ["client.private_weight"]),  # an absolute error has no temperature
        ("fedprox", ["exchange.mu"]),
        ("shuffled", ["client.private_weight", "temperature", "scorer.scorer.beta"]),
        ("local_adjusted", ["prior.tau"]),
        (
            "selective_fd",
            [
                "client.private_weight", "temperature", "familiarity.quantile",
                "familiarity.width", "filter.theta",
            ],
        ),
    ],
)  # fmt: skip
def test_a_method_is_tuned_in_what_it_reads(method: str, keys: list[str]) -> None:
    assert list(searched(method)) == keys


def test_a_method_that_reads_none_is_refused() -> None:
    for method in ("local", "fedavg"):  # FedAvg's mu is 0: it has no such term
        with pytest.raises(ConfigError, match=f"method={method} has no key with a declared range"):
            searched(method)


def test_every_declared_range_is_of_a_key_that_is_there() -> None:
    files = [file.read_text(encoding="utf-8") for file in sorted(CONF.rglob("*.yaml"))]
    for name, keys in DECLARED.items():
        if name in KINDS:
            continue
        homes = [text for text in files if f".{name}\n" in f"{text} " or f".{name} " in text]
        for key in keys:
            assert any(f"{key}:" in text for text in homes), f"{name}.{key}"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("scorer.rhoo=1,2", "scorer=ktpfl has no parameter 'rhoo'. Did you mean 'rho'"),
        ("scorer.rho=interval(1,2)", "leaves out what method=ktpfl has.*a range with 0.7 in it"),
        ("scorer.rho=1,2", "leaves out what method=ktpfl has"),
        ("scorer.rho=interval(2,0.1)", "interval.a,b. with a below b"),
        ("scorer.rho=tag(log,interval(0,1))", "a above 0"),
        ("scorer.variant=interval(0,1)", "the method has faithful, which is no number"),
        ("scorer.rho=glob(*)", "cannot be searched"),
        ("num_rounds=2,3", "num_rounds is the same in all trials"),
        ("dataset.noise=0.1,0.25", "dataset.noise is the same in all trials.*one task"),
        ("baseline=local,none", "baseline is the same in all trials"),
        ("scorer.rho=0.7,0.7", "cannot be searched: got scorer.rho=0.7,0.7, allowed: different"),
        ("seed=10000,10000", "a seed is given twice.*got seed=10000,10000"),
        ("seed=3", "seeds below are those of tables.*integers from 10000"),
        ("val_fraction=0", "judged by its clients' validation data"),
        ("experiment=k1", "a sweep over"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_message(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(compose.open_hydra(), ["method=ktpfl", word], 2, "random")


def test_a_plan_holds_every_run_and_equal_rounds_for_all_methods() -> None:
    words = ["method=mean,fedmd", "num_rounds=6", "seed=10000,10001", "temperature=2"]
    study, configs = plan(compose.open_hydra(), words, 3, "halving")
    places = list(study.places())
    assert len(places) == len(set(places)) == len(configs) == 2 * 2 * 3 * 2
    for (method, rung, _, seed), cfg in zip(places, configs, strict=True):
        assert (cfg.method.name, cfg.num_rounds, cfg.seed) == (method, (2, 6)[rung], seed)
        assert (cfg.baseline, cfg.evaluation.every) == ("none", cfg.num_rounds)
    assert all("temperature" not in one.ranges for one in study.tuned)  # it was set


def test_halving_thins_out_by_three() -> None:
    assert rungs(27, 27, 1) == [1, 3, 9, 27]
    assert survivors(list(range(27))) == list(range(9))
    assert survivors([5]) == [5]


def test_the_ranges_are_part_of_the_package() -> None:
    import experiments.tune

    setup = (Path(__file__).parents[3] / "setup.cfg").read_text(encoding="utf-8")
    assert Path(experiments.tune.__file__).with_name("ranges.yaml").exists()
    assert "tune/*.yaml" in setup
