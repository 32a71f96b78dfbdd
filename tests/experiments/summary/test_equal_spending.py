"""Whatever an arm spends, its twin in local training spends: per client, in every round.

Counted where steps are taken, at the trainer, for every bundle under who takes part, what goes
wrong and what the budget is; and what the clients say they spent is what was counted.
"""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from experiments.assembly.parts import build_parts
from experiments.assembly.preflight import check_compatible
from experiments.assembly.server import build_server
from experiments.config import compose
from experiments.config.comparison_keys import baseline_identity
from experiments.engines import serial
from experiments.summary.spending import by_design
from fedfuse.types import Phase

METHODS = sorted(
    path.stem for path in (Path(__file__).parents[3] / "experiments/conf/method").glob("*.yaml")
)
K, ROUNDS = 4, 4
LINES = [
    f"num_clients={K}", f"num_rounds={ROUNDS}", "dataset=synthetic", "dataset.image_size=6",
    "dataset.num_train=240", "public.size=40", "partitioner=dirichlet",
    "partitioner.min_samples=12", "evaluation.test_samples=20", "evaluation.every=4",
    "evaluation.batch_size=500", "model.hidden=8", "client.batch_size=16",
    "client.distill_batch_size=16", "checkpoint.every=0",
]  # fmt: skip
FAULTS, LEARNING_RATE = "fedfuse.faults", "fedfuse.train.learning_rate"
UNIFORM = {"participation": {"_target_": "fedfuse.participation.Uniform", "fraction": 0.5}}
SCENES: dict[str, dict] = {
    "all": {},
    "half": UNIFORM,
    "one": {"participation": {"_target_": "fedfuse.participation.RoundRobin", "fraction": 0.01}},
    "half, samples": {**UNIFORM, "budget": "samples"},
    "dropout": {"faults": {"_target_": f"{FAULTS}.Dropout", "rate": 0.5, "when": "either"}},
    "after, samples": {
        "faults": {"_target_": f"{FAULTS}.Dropout", "rate": 0.5, "when": "after"},
        "budget": "samples",
    },
    "nobody": {"faults": {"_target_": f"{FAULTS}.Dropout", "rate": 0.75, "when": "before"}},
    "late, half": {
        **UNIFORM,
        "faults": {
            "_target_": f"{FAULTS}.Stragglers", "rate": 0.6, "max_delay": 2, "max_age": 2,
        },
    },
    "late, samples": {
        "faults": {
            "_target_": f"{FAULTS}.Stragglers", "rate": 0.6, "max_delay": 2, "max_age": 1,
        },
        "budget": "samples",
    },
    "lost": {"faults": {"_target_": f"{FAULTS}.Messages", "lost": 0.4, "duplicated": 0.4}},
    "churn": {"faults": {"_target_": f"{FAULTS}.Churn", "join": 0.6, "leave": 0.6}},
    "restarts": {"faults": {"_target_": f"{FAULTS}.Restarts", "rate": 0.5}},
    "bytes": {**UNIFORM, "budget": "bytes", "budget_bytes": 10**9},
}  # fmt: skip
STEPS_OF_THEIR_OWN = {"apfl", "centralised", "ditto", "fedavg", "fedavg_ft", "fml", "pfedme"}
"""Methods that write down steps of their own and meet every scene; the others take turns."""
CASES = [
    (method, scene)
    for number, method in enumerate(METHODS)
    for place, scene in enumerate(SCENES)
    if method in STEPS_OF_THEIR_OWN or place % 7 == number % 7
    if method != "local"
    if method != "kafal" or "samples" not in scene  # which is refused: its steps see more samples
]
"""What is compared: bundle and scene."""


opened = cache(compose.open_hydra)


@cache
def composed(method: str) -> bytes:
    model = ["model=cnn2", "model.width=4"] if method == "token_graph" else ["model=mlp"]
    lines = [*LINES, *model, f"method={method}"]
    if method in ("scarlet", "mean_subset"):
        lines.append("select.size=20")
    if method == "feddf":
        lines.append("exchange.server_steps=3")
    if method == "fedmd_pretrained":
        lines += ["pretrain.epochs=1", "pretrain.private_epochs=1"]
    whole = compose.check(opened(), lines, multirun=False)[1][0]
    return pickle.dumps(compose.own_keys(whole))


def configured(method: str, scene: dict, **more):
    cfg = pickle.loads(composed(method))
    OmegaConf.set_struct(cfg, False)
    for key, value in {**scene, **more}.items():
        OmegaConf.update(cfg, key, value, merge=False)
    OmegaConf.resolve(cfg)
    return cfg


class Counting:
    """A trainer that counts, and the reporter that knows when; one arm."""

    def __init__(self, inner=None) -> None:
        self.inner, self.now = inner, (0, "")
        self.taken: Counter[tuple[int, int, str]] = Counter()
        self.told: Counter[tuple[int, int, str]] = Counter()
        self.last: dict[int, dict[str, float]] = {}

    def wrap(self, inner):
        self.inner = inner
        return self

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def fit(self, students, works):
        for student, work in zip(students, works, strict=True):
            samples = sum(work.schedule.sizes)
            samples += sum(work.anchor.schedule.sizes) if work.anchor is not None else 0
            key = self.now[0], student.client_id
            self.taken[*key, "steps"] += work.schedule.num_steps
            self.taken[*key, "samples"] += samples
        return self.inner.fit(students, works)

    def start(self, info):
        pass

    def phase(self, arm, round_, phase):
        self.now = (round_, phase)

    def client_done(self, client_id):
        pass

    def round_done(self, arm, record):
        for row in record.metrics:
            if row.phase == Phase.SPENT:
                self.told[row.round, row.client_id, row.metric] += row.value
        found: dict[int, dict[str, float]] = {}
        for row in record.metrics:
            if row.phase == Phase.FUSED:
                found.setdefault(row.client_id, {})[row.metric] = row.value
        self.last = found


class Twice:
    """A budget that pays for two exchanges."""

    def __init__(self) -> None:
        self.left = 2

    def affords(self):
        return self.left > 0

    def book(self, size):
        self.left -= size > 0


def spent(cfg, arm: str) -> Counting:
    """Run one arm of a run."""
    torch.set_num_threads(1)
    counting = Counting()
    parts = build_parts(cfg)
    check_compatible(parts)
    setup = build_server(parts, counting)
    setup = replace(setup, info=replace(setup.info, arms=(arm,)))
    if cfg.budget == "bytes":
        setup = replace(setup, plan=replace(setup.plan, byte_budget=Twice()))
    serial.run(parts, setup, None, wrap=counting.wrap)
    return counting


KNOWN: dict[str, Counting] = {}


def twin(cfg) -> Counting:
    """Return local training, once for all methods that share it."""
    name = baseline_identity(cfg, "data")
    if name not in KNOWN:
        KNOWN[name] = spent(cfg, "local")
    return KNOWN[name]


@pytest.mark.thinned
@pytest.mark.parametrize(("method", "scene"), CASES)
def test_a_client_spends_in_every_round_what_its_twin_spends(method, scene):
    cfg = configured(method, SCENES[scene])
    if (method, scene) == ("selective_fd", "half, samples"):
        # Nobody is sure of any of the 40 samples, and what counts for nobody is not visited.
        cfg.client.left_out = "visit"
    if method == "fedkd" and "faults" in SCENES[scene]:
        cfg.exchange.low_rank = 0  # who may miss a change gets whole models
    ours, theirs = spent(cfg, method), twin(cfg)
    unit = "samples" if cfg.budget == "samples" else "steps"
    rounds, clients = range(1, ROUNDS + 1), range(K)
    taken, there = (
        {r: [arm.taken[r, i, unit] for i in clients] for r in rounds} for arm in (ours, theirs)
    )
    if method == "centralised":  # one client takes them all
        there = {r: [sum(row), *[0] * (K - 1)] for r, row in there.items()}
    assert taken == there
    assert set(ours.last) == set(theirs.last) == set(clients)  # also those who rest
    if method != "fedmd_pretrained":  # what comes before the first round is told by itself
        for arm in (ours, theirs):
            assert +arm.told == +arm.taken


@pytest.mark.parametrize("method", METHODS)
def test_one_client_is_a_federation(method):
    cfg = configured(method, {}, num_clients=1, num_rounds=2)
    arm = spent(cfg, method)
    assert arm.taken[2, 0, "steps"] > 0


def test_the_scenes_are_not_empty():
    counts = [sum(twin(configured("knfu", scene)).taken.values()) for scene in SCENES.values()]
    assert len(set(counts)) > len(SCENES) / 2
    assert min(counts) > 0


@pytest.mark.parametrize("method", ["knfu", "fedavg", "fedavg_ft", "fml", "fd", "centralised"])
def test_with_a_budget_of_rounds_fusion_may_spend_more_and_says_so(method):
    cfg = configured(method, {"budget": "rounds"})
    ours, theirs = spent(cfg, method), twin(cfg)
    steps = [sum(v for (*_, m), v in arm.taken.items() if m == "steps") for arm in (ours, theirs)]
    assert steps[0] > steps[1] if method in ("knfu", "fedavg_ft", "fd") else steps[0] == steps[1]
    assert any("budget=rounds" in reason for reason in by_design(cfg))


STEPS = {
    "lr_schedule": {"_target_": f"{LEARNING_RATE}.Cosine", "warmup": 1, "per": "step"},
    "private_augment": {"_target_": "fedfuse.train.views.CropFlip", "padding": 2},
    "client.clip_norm": 0.2,
}
"""How steps are taken: at rates of their own, of samples changed anew, with short gradients."""


@pytest.mark.parametrize("method", ["knfu", "fedavg", "fedavg_ft", "pfedme"])
@pytest.mark.parametrize("budget", ["optimiser_steps", "samples"])
def test_schedules_clipping_and_augmentation_cost_nothing(method, budget):
    scene = {**UNIFORM, "budget": budget}
    plain, asked = (spent(configured(method, scene, **more), method) for more in ({}, STEPS))
    assert plain.taken == asked.taken
    assert plain.last != asked.last
    other = {name: configured(method, {**scene, name: STEPS[name]}) for name in STEPS}
    known = {baseline_identity(cfg, "data") for cfg in (configured(method, scene), *other.values())}
    assert len(known) == 4  # none of them shares a baseline with another


USELESS = [
    ("ditto", {"exchange.lam": 0.0}),
    ("fd", {"exchange.gamma": 0.0}),
    ("fedproto", {"exchange.lam": 0.0, "exchange.inference": "head"}),
    ("fedhkd", {"exchange.lam": 0.0, "exchange.soft_weight": 0.0}),
    ("fedtgp", {"exchange.lam": 0.0, "exchange.inference": "head"}),
]
"""Methods whose teacher says nothing: what is left is local training, to the bit."""


@pytest.mark.parametrize("scene", ["all", "half", "dropout", "late, half", "steps"])
@pytest.mark.parametrize(("method", "useless"), USELESS, ids=[name for name, _ in USELESS])
def test_a_useless_teacher_is_local_training(method, useless, scene):
    cfg = configured(method, STEPS if scene == "steps" else SCENES[scene], **useless)
    ours, theirs = spent(cfg, method), twin(cfg)
    assert ours.last == theirs.last
    assert len(ours.last) == K


@pytest.mark.parametrize(
    ("alone", "scene"),
    [
        ({"scorer.beta": 1e9}, "all"),
        ({"neighbours": {"_target_": "fedfuse.fusion.TopK", "k": 1}}, "half"),
    ],
)
def test_who_listens_to_itself_alone_gains_nothing(alone, scene):
    """Own predictions teach nothing new, so gains are noise: a point or two, either way."""
    gains = []
    for seed in range(3):
        more = {**alone, "seed": seed, "evaluation.test_samples": 400}
        cfg = configured("knfu", {**SCENES[scene], **more})
        ours, theirs = spent(cfg, "knfu").last, twin(cfg).last
        gains += [ours[i]["accuracy_global"] - theirs[i]["accuracy_global"] for i in range(K)]
    assert abs(sum(gains) / len(gains)) < 0.03
