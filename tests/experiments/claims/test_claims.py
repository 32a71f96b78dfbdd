"""The tables of KnFu's claims, on planted numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.claims.__main__ import main
from experiments.claims.asked import ask_figure
from experiments.claims.drift import sawtooth
from experiments.claims.planted import mass_inside, precision_at, self_mass
from experiments.claims.tables import CLAIMS
from experiments.claims.tiers import architectures
from experiments.claims.utility import agreement, rank_correlation, utility
from experiments.results import Arm
from fedfuse.types import MetricRow, RoundRecord
from server.reporters.files import Files
from server.reporters.folder import RunFolder
from server.reporters.partition_file import SPLITS, write_partition
from server.reporters.protocol import RunInfo
from tests.experiments import three_arms

GROUPS = np.array([0, 0, 0, 1, 1])


def test_planted_neighbours_by_hand():
    weights = np.array(
        [
            [0.4, 0.3, 0.1, 0.2, 0.0],  # of the two best others, 1 and 3, one is of the group
            [0.2, 0.6, 0.2, 0.0, 0.0],
            [0.0, 0.0, 0.2, 0.4, 0.4],  # none
            [0.0, 0.0, 0.1, 0.5, 0.4],  # its group has one other only
            [0.0, 0.0, 0.0, 0.0, 1.0],  # ties go to the smaller id: client 0, a stranger
        ]
    )
    assert precision_at(weights, GROUPS, 2) == pytest.approx((1 + 2 + 0 + 1 + 0) / 8)
    assert mass_inside(weights, GROUPS) == pytest.approx((0.8 + 1.0 + 0.2 + 0.9 + 1.0) / 5)
    assert self_mass(weights) == pytest.approx(2.7 / 5)


def test_clients_that_did_not_answer_do_not_count():
    weights = np.zeros((5, 5))
    assert np.isnan(precision_at(weights, GROUPS, 1))
    weights[0] = [0.5, 0.5, 0, 0, 0]
    assert precision_at(weights, GROUPS, 1) == 1.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "got nothing"),
        (["k13", "x"], "one of k1, k2, k3"),
        (["k3", "nowhere"], "is not a folder"),
        (["k3"], "needs the claim and folders"),
    ],
)
def test_mistakes_cost_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert error.count("\n") == 1


def test_tables_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.run import main as fedfuse

    common = ["dataset=synthetic", "model=mlp", "num_rounds=2", "num_clients=4"]
    planted = ["partitioner=label_groups", "partitioner.num_groups=2", "method=knfu,mean"]
    assert fedfuse(["-m", *common, *planted, f"hydra.sweep.dir={tmp_path / 's'}"]) == 0
    capsys.readouterr()
    for claim, columns in (("k3", 9), ("k9", 7), ("k11", 6), ("k8", 6), ("k6", 6), ("flips", 8)):
        assert main([claim, str(tmp_path / "s")]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        # Heading, rule, two methods; of flips both on two test sets.
        assert len(lines) == (6 if claim == "flips" else 4)
        assert {line.count(" | ") for line in lines if "---" not in line} == {columns - 1}
        if claim == "k11":
            assert "20.0" in lines[2]  # 500 public samples of ten classes, 4 bytes each


def test_rank_correlation_by_hand():
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 9])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([9, 3, 2, 1])) == pytest.approx(-1)
    # d = (0, 1, -1, 0): 1 - 6 * 2 / (4 * 15)
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])) == pytest.approx(0.8)
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4)))


def test_a_scorer_that_knows_the_worth_agrees_with_it_and_its_opposite_does_not():
    rng = np.random.default_rng(0)
    planted = rng.normal(size=(6, 6))
    whole = rng.random(6)
    worth = utility(whole, whole[:, None] - planted)
    others = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(worth[others], planted[others])
    assert np.isnan(worth[~others]).all()
    knows = np.exp(planted) / np.exp(planted).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(agreement(knows, worth), 1)
    np.testing.assert_allclose(agreement(-knows, worth), -1)
    assert np.isnan(agreement(np.full((6, 6), 1 / 6), worth)).all()  # equal weights say nothing


def test_both_sides_of_a_sawtooth_by_hand():
    nan = np.nan
    arm = Arm(
        np.array([1, 2, 3]),
        {
            "accuracy_global@local": np.array([[0.5, 0.5], [0.4, nan], [0.5, 0.6]]),
            "accuracy_global@fused": np.array([[0.5, 0.5], [0.7, 0.6], [0.8, 0.7]]),
        },
        {"bytes_up@fuse": np.array([0.0, 10.0, 10.0])},
    )
    alone, together = sawtooth(arm)
    # Client 0 loses 0.1 and 0.2 alone and wins 0.3 and 0.3; client 1 counts in round 3 only.
    np.testing.assert_allclose(alone, [-0.15, 0.0])
    np.testing.assert_allclose(together, [0.3, 0.1])


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ({"_target_": "fedfuse.models.mlp.mlp"}, ["mlp"] * 4),
        ({"_target_": "x.Cycle", "factories": {"a": {}, "b": {}}}, ["a", "b", "a", "b"]),
        ({"_target_": "x.Tiers", "factories": {"a": {}, "b": {}}}, ["a", "a", "b", "b"]),
        (
            {"_target_": "x.Table", "factories": {"a": {}, "b": {}}, "table": ["b", "a", "a", "b"]},
            ["b", "a", "a", "b"],
        ),
    ],
)
def test_architectures_are_told_from_a_configuration_alone(model, names):
    assert architectures({"model": model, "num_clients": 4}) == names


def write(
    path: Path,
    values: dict[str, list[float]],
    baseline: dict[str, list[float]],
    weights: list[list[float]] | None = None,
    *,
    seed: int = 0,
    summary: dict[str, object] | None = None,
    sent: float = 0.0,
    **config: object,
) -> None:
    """Write the folder of a finished run of one round, as a run does, with known numbers.

    A metric ``name@phase`` is one of that phase.
    """
    folder, num_clients = RunFolder(path), len(values["accuracy_own"])
    folder.open(seed=seed, overrides=[])
    known = {"method": {"name": "mean"}, "seed": seed, "num_clients": num_clients, **config}
    folder.write_config(json.dumps(known))
    folder.record(data_fingerprint=f"data {seed}", test_samples=1000)
    files = Files(folder)
    files.start(RunInfo("mean", ("local", "mean"), num_clients, 1, "digits", "iid", "mlp"))
    for arm, found in (("local", baseline), ("mean", values)):
        rows = [
            MetricRow(1, client, name.partition("@")[2] or "fused", name.partition("@")[0], value)
            for name, row in found.items()
            for client, value in enumerate(row)
        ]
        if arm == "mean" and sent:
            rows.append(MetricRow(1, -1, "fuse", "bytes_up", sent))
        shared = torch.tensor(weights) if weights is not None and arm == "mean" else None
        files.round_done(arm, RoundRecord(1, tuple(rows), shared))
    files.close()
    owners = np.repeat(np.arange(num_clients), 100)
    none = np.zeros(len(owners), dtype=np.int64)
    write_partition(folder, owners, np.full(len(owners), SPLITS.index("test")), none, none)
    folder.finish({"method": "mean", "num_clients": num_clients, "clients": [], **(summary or {})})


def both(own: list[float]) -> dict[str, list[float]]:
    return {"accuracy_own": own, "accuracy_global": own, "loss_own": [1 - value for value in own]}


def table(claim: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    assert main([claim, str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.strip("| ").split(" | ") for line in lines if "---" not in line]


def test_a_guard_that_spares_a_client_is_told(tmp_path, capsys):
    local = both([0.80, 0.80, 0.80])
    for seed in (0, 1):
        for kind, own in (("none", [0.90, 0.50, 0.82]), ("validation", [0.90, 0.80, 0.82])):
            told = None if kind == "none" else {"undone": 2, "distillations": 6}
            client, path = {"guard": kind}, tmp_path / f"{kind}{seed}"
            write(path, both(own), local, seed=seed, client=client, summary={"guard": told})
    rows = [row for row in table("guard", tmp_path, capsys) if row[2] == "own"]
    assert [row[1] for row in rows] == ["mean", "mean"]
    assert [row[3:5] for row in rows] == [["none", "-"], ["validation", "33%"]]
    # One of three clients of each seed was harmed beyond the error of 100 tests; with it nobody.
    assert rows[0][5].endswith(", 2/2 of 6")
    assert rows[1][5].endswith(", 2/0 of 6")
    assert [row[6] for row in rows] == ["2 of 6", "0 of 6"]
    assert rows[0][7] == "-"
    assert rows[1][7].startswith("+10.0 [")


def test_harm_is_counted_by_federation_in_the_same_runs_with_the_guard_and_without(
    tmp_path, capsys
):
    local = [0.80, 0.80, 0.80]
    for seed, learned in enumerate(([0.82, 0.50, 0.90], [0.81, 0.82, 0.80], [0.50, 0.40, 0.80])):
        deployed = [0.82, 0.80, 0.90] if seed == 0 else learned
        values = {}
        for test in ("own", "global"):
            for suffix, row in (("", deployed), ("_local", local), ("_unguarded", learned)):
                values[f"accuracy_{test}{suffix}"] = row
        write(tmp_path / "runs" / f"{seed}", values, both(local), seed=seed)
    rows = table("harm", tmp_path / "runs", capsys)[1:]
    assert [row[2:5] for row in rows] == [
        ["own", "unguarded", "2 of 3"],
        ["own", "guarded", "1 of 3"],
        ["balanced", "unguarded", "2 of 3"],
        ["balanced", "guarded", "1 of 3"],
    ]
    assert rows[1][5] == "33.3% [0.8, 90.6]"  # Clopper and Pearson's
    assert [row[6] for row in rows[:2]] == ["3", "2"]
    # The mean over runs of the means over clients, in points.
    assert rows[0][7] == "-9.4"
    assert rows[1][7] == "-6.1"
    assert rows[1][8] == "-"  # of a loss nothing is kept
    write(tmp_path / "plain" / "run", both(local), both(local))
    assert len(table("harm", tmp_path / "plain", capsys)) == 1  # without a guard there is no row


def test_adversaries_do_not_count_and_the_weight_they_got_does(tmp_path, capsys):
    told = {"attack": {"adversaries": [2], "weight": 0.25}}
    write(tmp_path / "run", both([0.9, 0.82, 0.1]), both([0.8, 0.8, 0.8]), summary=told)
    (row,) = table("k2", tmp_path, capsys)[1:]
    assert row[2:4] == ["1", "80.0, +6.0 (1 seed), 1/0 of 2"]
    assert row[5:] == ["0.25", "0.33"]
    row = table("frontier", tmp_path, capsys)[1]
    assert row[2] == "80.0, +6.0 (1 seed), 1/0 of 2"


def test_a_damaged_list_of_adversaries_costs_one_line(tmp_path, capsys):
    told = {"attack": {"adversaries": ["no number"]}}
    write(tmp_path / "run", both([0.9, 0.8]), both([0.8, 0.8]), summary=told)
    assert main(["k2", str(tmp_path)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_worth_is_what_is_missing_without_a_client(tmp_path, capsys):
    local, whole = both([0.5] * 3), both([0.9, 0.9, 0.9])
    # To each other client, client 2 is worth most, then 1, then 0.
    worth = np.array([[0, 0.1, 0.3], [0.05, 0, 0.3], [0.05, 0.1, 0]])
    scored = {"Uniform": [[1 / 3] * 3] * 3, "Knows": (0.1 + worth).tolist()}
    scored["Errs"] = (0.5 - worth).tolist()
    for name, weights in scored.items():
        write(tmp_path / name, whole, local, weights, scorer={"_target_": f"x.{name}"})
    assert main(["k5", str(tmp_path)]) == 2
    assert "experiment=k5_without into one folder" in capsys.readouterr().err
    for client in range(3):
        without = both((0.9 - worth[:, client]).tolist())
        write(
            tmp_path / f"without{client}",
            without,
            local,
            scored["Uniform"],
            scorer={"_target_": "x.Uniform"},
            neighbours={"_target_": "x.AllBut", "client": client},
        )
    rows = {row[0]: row for row in table("k5", tmp_path, capsys)[1:]}
    assert list(rows) == ["errs", "knows", "uniform"]
    assert rows["uniform"][1:3] == ["-", "-"]  # equal weights rank nobody
    assert rows["knows"][1:3] == ["+1.00 (1 seed)"] * 2
    assert rows["errs"][1:3] == ["-1.00 (1 seed)"] * 2
    assert rows["knows"][3] == "+40.0 (1 seed)"


def spread_over_seeds(path: Path, methods: dict[str, tuple[float, float]]) -> None:
    """Write runs of three seeds that gain so much over local training on both tests."""
    for seed, off in enumerate((0.0, 0.002, -0.002)):
        local = {"accuracy_own": [0.8] * 3, "accuracy_global": [0.5] * 3}
        for name, gains in methods.items():
            values = {
                test: [value + gain + off for value in local[test]]
                for (test, gain) in zip(local, gains, strict=True)
            }
            told = {"method": name}
            write(path / f"{name}{seed}", values, local, seed=seed, summary=told)


def test_the_frontier_marks_whom_nothing_beats_and_what_stays_certain(tmp_path, capsys):
    methods = {"local_adjusted": (0.0, 0.05), "mean": (-0.02, 0.14), "knfu_adjusted": (0.01, 0.18)}
    spread_over_seeds(tmp_path, methods)
    assert main(["frontier", str(tmp_path)]) == 0
    first, said, second = capsys.readouterr().out.split("\n\n")
    rows = {
        cells[1]: cells
        for line in first.splitlines()[2:]
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    assert list(rows) == ["local_adjusted", "knfu_adjusted", "mean"]
    assert [rows[name][6] for name in rows] == ["", "yes", ""]
    assert rows["mean"][3].startswith("**50.0, +14.0 [")
    assert rows["mean"][4].startswith("**-2.0 [")  # over the control, whose own gain is 0
    assert rows["local_adjusted"][4:6] == ["-", "-"]
    assert rows["local_adjusted"][2].startswith("80.0, ")  # no gain, nothing certain
    # Three methods on two tests over local, two of them over the control.
    assert "Corrected for the 10 comparisons of this page (Holm, 5%)" in said
    mean = next(line for line in second.splitlines() if line.startswith("| mean |"))
    assert mean.split(" | ")[1:6] == ["1", "-2.0 to -2.0", "+14.0 to +14.0", "0 / 1", "1 / 0"]


def test_lessons_are_over_the_mean_with_the_same_weights(tmp_path, capsys):
    scorers = {"Uniform": 0.0, "KnFu": 0.05}
    for seed, off in enumerate((0.0, 0.002, -0.002)):
        local = {"accuracy_own": [0.8] * 3, "accuracy_global": [0.5] * 3}
        for scorer, lead in scorers.items():
            for method, gain in {"taid": 0.03, "mean": 0.01}.items():
                values = both([0.8 + lead + gain + off] * 3)
                # A client that lacks no class has no such accuracy.
                values["accuracy_absent"] = [0.2 + gain, 0.3 + 2 * gain, float("nan")]
                write(
                    tmp_path / f"{lead}{method}{seed}",
                    values,
                    local,
                    seed=seed,
                    summary={"method": method},
                    scorer={"_target_": f"x.{scorer}"},
                )
        probe = both([0.78 + off] * 3)
        told = {"summary": {"method": "probe"}, "scorer": {"_target_": "x.Probe"}}
        write(tmp_path / f"probe{seed}", probe, local, seed=seed, **told)
    assert main(["lessons", str(tmp_path)]) == 0
    first, said, second = capsys.readouterr().out.split("\n\n")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in first.splitlines()[2:]
    ]
    assert [row[1:3] for row in rows] == [
        *(["uniform", "mean"], ["uniform", "taid"]),
        *(["knfu", "mean"], ["knfu", "taid"]),
        ["probe", "probe"],
    ]
    assert [row[5] for row in rows] == [
        *("-", "**+2.0 [+2.0, +2.0]**", "-", "**+2.0 [+2.0, +2.0]**"),
        "**-3.0 [-3.0, -3.0]**",  # no mean has its weights: the first one stands for it
    ]
    assert [row[7] for row in rows] == ["-", "+3.0 [+3.0, +3.0]", "-", "+3.0 [+3.0, +3.0]", "-"]
    assert "Corrected for the 6 comparisons" in said
    taid = next(line for line in second.splitlines() if line.startswith("| knfu | taid |"))
    assert taid.strip("| ").split(" | ")[2:] == ["**+2.0 [+2.0, +2.0]**"] * 2
    assert "| knfu | mean |" not in second  # what all others are compared with


SUBSET = {"_target_": "fedfuse.select.RandomSubset", "size": 250}
ALL = {"_target_": "fedfuse.select.All"}


def write_asked(folder: Path) -> None:
    """Write all samples, random ones of two sizes, and one method that asks, on three seeds."""
    arms = {
        "mean": (0.05, 6000.0, {"select": ALL}),
        "mean_subset": (0.03, 3000.0, {"select": SUBSET}),
        "ddk": (0.045, 3300.0, {"select": ALL, "request": {"_target_": "x.DDK"}}),
    }
    for seed, off in enumerate((0.0, 0.002, -0.002)):
        local = both([0.7] * 3)
        for name, (lead, sent, told) in arms.items():
            values = both([0.7 + lead + off] * 3)
            given = {"summary": {"method": name}, "method": {"name": name}, "sent": sent, **told}
            write(folder / f"{name}{seed}", values, local, seed=seed, **given)
        few = {"method": "mean_subset"}
        small = {**SUBSET, "size": 50}
        values = both([0.71 + off] * 3)
        given = {"summary": few, "method": {"name": "mean_subset"}, "sent": 600.0, "select": small}
        write(folder / f"few{seed}", values, local, seed=seed, **given)


def test_what_asks_is_held_against_random_samples_of_the_nearest_cost(tmp_path, capsys):
    write_asked(tmp_path)
    rows = table("ask", tmp_path, capsys)
    assert [row[1] for row in rows[1:5]] == [
        *("mean_subset (size 50)", "mean_subset (size 250)"),
        *("ddk", "mean"),
    ]
    assert [row[2] for row in rows[1:5]] == ["0.2", "1.0", "1.1", "2.0"]
    assert [row[3] for row in rows[1:5]] == ["10%", "50%", "55%", "100%"]
    assert rows[3][5].startswith("70.0, +4.5 [")
    # Over 250 samples, whose bytes are nearer than those of 50; others choose nothing.
    assert [row[7] for row in rows[1:5]] == ["-", "-", "**+1.5 [+1.5, +1.5]**", "-"]
    assert "Corrected for the 2 comparisons" in rows[-2][0]


def test_the_figure_of_bytes_is_written_and_shows_the_table(tmp_path, capsys):
    write_asked(tmp_path)
    file = tmp_path / "ask.svg"
    assert main(["ask", "--figure", str(file), str(tmp_path)]) == 0
    assert "mean_subset (size 250): 1 kB, +3.0 [" in file.read_text()
    rows = {row[:3]: row for row in ask_figure(tmp_path).numbers.rows}
    assert rows["-", "ddk", "accuracy_own"][3:5] == pytest.approx((1100.0, 0.045))
    assert main(["ask", "--figure", "ask.txt", str(tmp_path)]) == 2
    assert ".png, .svg, .pdf" in capsys.readouterr().err
    assert main(["k3", "--figure"]) == 2


def test_several_folders_are_one_page(tmp_path, capsys):
    spread_over_seeds(tmp_path / "a", {"mean": (0.01, 0.1)})
    spread_over_seeds(tmp_path / "b", {"knfu": (0.01, 0.1)})
    assert main(["k10", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "| - | mean |" in out
    assert "| - | knfu |" in out
    assert "Corrected for the 6 comparisons" in out


def test_claims_show_the_gain_over_the_further_control(tmp_path):
    for seed in range(3):
        three_arms.write(tmp_path / f"s{seed}", seed=seed)
    head, *rows = list(CLAIMS["k1"](tmp_path))
    column = head.index("balanced test set: over local_adjusted")
    cells = {row[1]: row for row in rows if len(row) > 1}
    assert cells["knfu_adjusted"][column].startswith("+13.0 [")
    assert cells["local_adjusted"][column] == "-"
    head, *rows = list(CLAIMS["frontier"](tmp_path))
    column = head.index("balanced: over local_adjusted")
    cells = {row[1]: row for row in rows if len(row) == len(head)}
    assert "+13.0 [" in cells["knfu_adjusted"][column]
    assert len(list(CLAIMS["flips"](tmp_path))) > 1


def test_M2_robustness_is_over_local_training_and_beyond_what_clean_inputs_gain(tmp_path, capsys):
    for seed, off in enumerate((0.0, 0.002, -0.002)):
        local = {**both([0.5] * 3), "accuracy_clean@probed": [0.5] * 3}
        ours = {**both([0.6] * 3), "accuracy_clean@probed": [0.6 + off] * 3}
        for metric, before, after in (("blur", 0.4, 0.5), ("fgsm", 0.3, 0.25), ("pgd", 0.2, 0.2)):
            local[f"accuracy_{metric}@probed"] = [before] * 3
            ours[f"accuracy_{metric}@probed"] = [after + off] * 3
        write(tmp_path / f"mean{seed}", ours, local, seed=seed)
    assert main(["robustness", str(tmp_path)]) == 0
    first, said = capsys.readouterr().out.split("\n\n", 1)
    (row,) = [line.strip("| ").split(" | ") for line in first.splitlines()[2:]]
    assert row[:3] == ["-", "mean", "50.0, **+10.0 [+9.5, +10.5]**"]
    assert row[3:5] == ["40.0, **+10.0 [+9.5, +10.5]**", "30.0, **-5.0 [-5.5, -4.5]**"]
    assert row[5] == "20.0, 0.0 [-0.5, +0.5]"
    assert row[6:] == ["0.0 [0.0, 0.0]", "-15.0 [-15.0, -15.0]", "-10.0 [-10.0, -10.0]"]
    assert "Corrected for the 4 comparisons" in said


def test_M2_the_experiment_ends_in_its_table(tmp_path, capsys):
    from experiments.run import main as fedfuse

    words = ["dataset=synthetic", "model=mlp", "num_clients=3", "num_rounds=2", "seed=0"]
    words += ["evaluation.every=2", "evaluation.probe_samples=60"]
    words += ["partitioner.sizes=40", "partitioner.alpha=1"]
    sweep = ["-m", "experiment=robustness", *words, f"hydra.sweep.dir={tmp_path / 's'}"]
    assert fedfuse(sweep) == 0
    capsys.readouterr()
    head, *rows = [line for line in table("robustness", tmp_path / "s", capsys) if len(line) > 1]
    assert head[2:6] == [f"{name}: local, Δ [95%]" for name in ("clean", "blur", "FGSM", "PGD")]
    assert [row[1] for row in rows] == ["mean", "knfu"]
    assert all("(1 seed)" in cell for row in rows for cell in row[2:])
