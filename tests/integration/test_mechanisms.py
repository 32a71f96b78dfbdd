"""Every mechanism's bundle is one run, whoever hosts it, breaks it off, or trains its clients.

To the bit: broken off and resumed, on two nodes instead of one. To rounding: one client after the
other, or all at once. Runs begin after the command line, which would take longer than they do.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig
from safetensors.torch import load_file

from clients.app import forget_run, make_client_app
from clients.state.state_store import StatePlan
from experiments.assembly.parts import Parts, build_parts
from experiments.assembly.server import build_server
from experiments.config import compose
from experiments.engines import hosting
from experiments.engines.hosting import NodeRecipe
from experiments.runs.lifecycle import open_run, perform
from experiments.runs.resume import reopen_run
from fedfuse.errors import ConfigError
from server import loop
from server.app import ServerSetup, make_server_app
from server.reporters.folder import RunFolder
from server.transport.serial_grid import SerialGrid

BUNDLES = {
    # what is asked for, answered and wished
    "ddk": ["request.per_client=true"],
    "miniplm": ["request.keep=0.3", "request.labels=false"],
    "ksas": ["answer.size=4"],
    "curriculum": ["request.ramp_rounds=5"],
    "cook": ["wish.share=0.4"],
    # losses
    "bd_kd": [],
    "std_kd": [],
    "ofa": ["distill.epsilon=1.5"],
    "dkd": [],
    "ap_at_k": [],
    "relation_graph": [],
    "dist": [],
    "similarity": [],
    "tgeo_kd": [],
    # what clients make of their teachers
    "taid": [],
    "kafal": [],
    "mulki": [],
    "fantastic_gains": ["uptake.by=label"],
    # public samples
    "partial_mixup": ["augment.keep=0.5"],
    "mix_distribution": ["augment.share=1"],
    "hard_augment": ["augment.lag=1", "augment.lambda_t=0", "augment.brightness=5"],
    "data_free": ["augment.steps=5"],
    "class_noise": [],
    "jitter": [],
    # what is asked for
    "kd3": ["request.share=0.2", "request.quota=2"],
    "pgkd": ["request.patience=1"],
    "comd": [],
    "ask_random": [],
    # more than predictions
    "nd_prototypes": ["exchange.width=5"],
    "two_teachers_proto": [],
    "shared_classifier": [],
    # rules
    "evidence": [],
    "logit_arithmetic": ["rule.reference=previous", "rule.experts=2"],
    "taid_server": [],
    "bidirectional": [],
    "vida_gate": ["rule.per=batch"],
    "creamfl_logits": ["rule.tau=0.1"],
    "prior_free": [],
    # what clients show
    "aligned_rows": ["scorer=knfu"],
    # what travels beside predictions
    "creamfl": ["exchange.width=16", "exchange.mu=2"],
    "interactive": ["exchange.width=16", "exchange.weight=0.1"],
    "token_graph": [],
    "fccl_plus": ["exchange.tau=0.1"],
    # what clients tell of their loss, and keep of their past
    "rhfl": ["scorer.eta=2"],
    "fccl": [],
    # scorers, privacy
    "mrr": [],
    "probe": [],
    "gradient_agreement": [],
    "cuber": ["scorer.unknown=left_out"],
    "swing_rarity": ["privacy.seed=simulated"],
    # a model on the server that selects what it learns
    "fedgems": ["student.hidden=20"],
    # which samples a client answers for
    "edgefd": ["familiarity.num_clusters=3"],
    # a client's own prediction
    "self_distillation": [],
    "local_pseudo": ["filter=ambiguity"],
    # means of classes
    "fedgen": ["exchange.hidden=16"],
    "fedgh": ["exchange.server_epochs=5", "optimizer=sgd"],
    "fedhkd": ["exchange.soft_weight=2", "exchange.lam=2", "exchange.noise=0.1"],
    "fedtgp": ["exchange.trained.epochs=5"],
    # knowledge of private samples
    "fedgkt": ["exchange.epochs=2"],
    "feddkc": ["exchange.refine=peak"],
    "fedcache": ["exchange.neighbours=3"],
    # models, held near the average
    "fedntd": ["exchange.mu=0.1"],
    # a small model beside them
    "fedkd": ["optimizer=sgd"],
    # models that travel
    **(
        MERGES := {
            "pfedme": ["exchange.eta=0.05", "exchange.inner_steps=3"],
            "apfl": ["exchange.alpha_rate=2", "optimizer=sgd"],
            "task_arithmetic": [],
            "ties": [],
            "dare": [],
            "opcm": ["merge.continual=true"],
            "twin": ["merge.weights=predictions"],
            "layer_swap": [],
            "coalesce": [],
        }
    ),
}
"""By name, with what is set besides."""
LOOP_ONLY = {
    "creamfl": "CreamFL",
    "interactive": "Interactive",
    "relation_graph": "RelationGraph",
    "dist": "DIST",
    "similarity": "Similarity",
    "fccl": "FCCL",
    "fccl_plus": "FCCLPlus",
    "tgeo_kd": "TGeo",
    "token_graph": "TokenGraphs",
    **dict.fromkeys(("fedntd", *MERGES), "Averaged"),
    "pfedme": "PFedMe",
    "apfl": "APFL",
    "fedkd": "Mutual",
    "fedgen": "LatentFeatures",
    "fedgh": "GlobalHeader",
    "fedhkd": "Prototypes",
    "fedtgp": "Prototypes",
}
"""Whose clients cannot be trained all at once, and the part that says so."""

MODELS = {"token_graph": "cnn2"}
"""Whose clients must run something else than a perceptron."""

WORDS = ["dataset=synthetic", "dataset.image_size=8", "dataset.num_train=150", "public.size=20"]
WORDS += ["partitioner.min_samples=15", "client.batch_size=16", "num_clients=3"]
WORDS += ["num_rounds=2", "warmup_rounds=0", "baseline=none", "evaluation.test_samples=50"]
WORDS += ["models=save", "trainer=loop", "checkpoint.every=0"]


def run(cfg: DictConfig, folder: Path, **changed: object) -> Path:
    cfg = pickle.loads(pickle.dumps(cfg))  # a fifth of a copy
    for key, value in changed.items():
        node, _, last = key.rpartition("__")
        (cfg[node] if node else cfg)[last] = value
    perform(open_run(cfg, folder, []))
    return folder


def left(folder: Path) -> dict[str, bytes]:
    names = ["metrics.parquet", *(f"models/{client}.safetensors" for client in range(3))]
    return {name: (folder / name).read_bytes() for name in names}


def models(folder: Path) -> torch.Tensor:
    files = [load_file(folder / f"models/{client}.safetensors") for client in range(3)]
    return torch.cat([tensor.flatten() for file in files for tensor in file.values()])


@pytest.fixture(scope="module")
def hydra() -> Hydra:
    return compose.open_hydra()


@pytest.fixture(scope="module")
def whole(hydra, tmp_path_factory) -> Callable[..., tuple[DictConfig, Path]]:
    """Return a bundle's configuration, and the folder of its run on one node, made once.

    ``like`` names the bundle whose clients' model it takes; its own if there is none.
    """
    made: dict[tuple[str, str], tuple[DictConfig, Path]] = {}

    def of(name: str, like: str = "") -> tuple[DictConfig, Path]:
        model = MODELS.get(like or name, "mlp")
        if (name, model) not in made:
            words = [*WORDS, f"method={name}", f"model={model}", *BUNDLES.get(name, [])]
            cfg = compose.configure(words, hydra)
            made[name, model] = cfg, run(cfg, tmp_path_factory.mktemp(name) / "run")
        return made[name, model]

    return of


@pytest.mark.parametrize("name", BUNDLES)
def test_broken_off_and_resumed_on_two_nodes_it_is_the_same_run(
    hydra, whole, tmp_path, monkeypatch, name
):
    cfg, unbroken = whole(name)
    real, folder = loop.record, tmp_path / "run"

    def interrupt(round_: int, *args: object, **named: object):
        if round_ == 2:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(cfg, folder, engine__num_nodes=2, checkpoint__every=1)
    perform(reopen_run(folder, [f"resume={folder}"], hydra))
    assert left(folder) == left(unbroken)
    of_models = name in MERGES or name == "fedntd"
    plain = models(whole("fedavg" if of_models else "mean", like=name)[1])
    assert not torch.allclose(models(unbroken), plain, atol=1e-3), "it does something"


@pytest.mark.parametrize("name", BUNDLES)
def test_all_at_once_it_is_the_same_run_or_the_part_is_named(whole, tmp_path, name):
    cfg, apart = whole(name)
    if (part := LOOP_ONLY.get(name)) is not None:
        with pytest.raises(ConfigError, match=part):
            run(cfg, tmp_path / "run", trainer="batched")
        return
    together = run(cfg, tmp_path / "run", trainer="batched")
    torch.testing.assert_close(models(together), models(apart), atol=1e-4, rtol=1e-3)


def travelled(content: RecordDict) -> RecordDict:
    return recorddict_from_proto(recorddict_to_proto(content))


@dataclass
class Elsewhere:
    """A ClientApp each of whose messages is answered as by a process of its own.

    As in a deployment: what a process keeps is gone after a message; a node is built of nothing but
    the configuration and its Context, and all that it is told and tells has been bytes.
    """

    recipe: NodeRecipe
    states: StatePlan

    def __call__(self, message: Message, context: Context) -> Message:
        forget_run(context.run_id)
        hosting._base.cache_clear()
        message.content = travelled(message.content)
        context.state = travelled(context.state)
        reply = make_client_app(self.recipe, self.states)(message, context)
        reply.content = travelled(reply.content)
        return reply


@pytest.mark.thinned(keep=5)
@pytest.mark.parametrize("where", ["context", "disk"])
@pytest.mark.parametrize("name", BUNDLES)
def test_a_process_for_every_message_changes_no_bit(whole, tmp_path, name, where):
    (tmp_path / "states").mkdir()

    def engine(parts: Parts, setup: ServerSetup, _: RunFolder) -> None:
        server = build_server(build_parts(parts.cfg, private=False), setup.reporter)
        answers = Elsewhere(NodeRecipe.of(parts.cfg), StatePlan(where, str(tmp_path / "states")))
        grid = SerialGrid(answers, [{"partition-id": i, "num-partitions": 2} for i in range(2)])
        app = make_server_app(lambda _: replace(server, num_nodes=2, counts_clients=True))
        app(grid, Context(grid.run_id, 0, {}, RecordDict(), {}))
        forget_run(grid.run_id)

    cfg, together = whole(name)
    perform(open_run(cfg.copy(), tmp_path / "run", []), engine=engine)
    assert left(tmp_path / "run") == left(together)
