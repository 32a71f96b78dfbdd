"""What goes with what: each row of the table, and every method with every option of an exchange."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from experiments.assembly import capabilities
from experiments.assembly.build_all import check_parts
from experiments.assembly.parts import build_parts
from experiments.config import compose
from experiments.config.folder import CONF
from experiments.run import main
from experiments.runs import launch
from fedfuse.codec import Float32, RowCodec
from fedfuse.declarations import wrong_declaration
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.testing import CheckFailed, check_codec
from server.reporters.folder import RunFolder
from server.reporters.in_memory import InMemory

TINY = [
    "dataset=synthetic",
    "dataset.num_train=200",
    "dataset.num_test=60",
    "public.size=40",
    "model=mlp",
    "model.hidden=8",
    "num_clients=3",
    "num_rounds=1",
    "warmup_rounds=0",
    "partitioner=iid",
    "baseline=none",
    "evaluation.test_samples=40",
    "evaluation.own_test_samples=20",
    "checkpoint.every=0",
]
SLOTS = ("extract", "codec", "privacy", "attack", "student", "cache", "familiarity", "filter")
SLOTS += ("select", "pretrain", "rule", "guard", "local_loss", "uptake", "merge")
SLOTS += ("augment", "request", "answer", "wish")
KEYS: dict[str, dict[str, Any]] = {
    "budget=samples": {"budget": "samples"},
    "budget=rounds": {"budget": "rounds"},
    "budget=bytes": {"budget": "bytes", "budget_bytes": 100_000},
    "evaluation.prior=add": {"evaluation.prior": "add"},
    "evaluation.prior=subtract": {"evaluation.prior": "subtract"},
    "trainer=batched": {"trainer": "batched"},
    "public=noise": {"public": {"_target_": "fedfuse.data.public.Noise", "size": 40}},
    "evaluation.membership=true": {"evaluation.membership": True},
}
SMALLER = {
    "exchange.server_steps": 3,
    "select.size": 20,
    "pretrain.epochs": 1,
    "pretrain.private_epochs": 1,
}


@cache
def base() -> bytes:
    cfg = compose.configure([*TINY, "method=local"])
    OmegaConf.set_struct(cfg, False)
    return pickle.dumps(cfg)


@cache
def file(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    return read


def option(group: str, name: str) -> dict[str, Any]:
    """Return an option's own keys, read without Hydra, which takes a fifth of a second for each."""
    read = dict(file(f"{group}/{name}"))
    for other in read.pop("defaults", []):
        # GROUP@PLACE: NAME is a part that another may replace at the command line, and a student
        # a model; NAME@PLACE is a part of this group.
        where, name = next(iter(other.items())) if isinstance(other, dict) else (other, None)
        inner, _, place = where.partition("@")
        if name is not None:
            part: dict[str, Any] = option(inner.removeprefix("/"), name)
        elif place:
            part = option(group, inner)
        elif other != "_self_":
            part = option(group, other)
        else:
            continue
        for key in reversed(place.split(".") if place not in ("", "_here_") else []):
            part = {key: part}
        read = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.merge(part, read)))
    return read


def options(group: str) -> list[str]:
    several = ("table", "cycle", "tiers", "zero_cost")
    files = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    return [name for name in files if name not in ("none", "custom", *several)]


def configured(method: str, *choices: str) -> DictConfig:
    """Return the configuration of a method with options and keys besides."""
    cfg: DictConfig = pickle.loads(base())  # a fifth of a copy
    bundle = dict(file(f"method/{method}"))
    for line in bundle.pop("defaults", []):
        ((group, name),) = line.items()
        cfg[group.removeprefix("override /")] = option(group.removeprefix("override /"), name)
    cfg.merge_with(bundle)
    for choice in choices:
        group, _, name = choice.partition("=")
        if choice in KEYS:
            for key, value in KEYS[choice].items():
                OmegaConf.update(cfg, key, value, merge=False)
        elif "." in group or not (CONF / group).is_dir():
            OmegaConf.update(cfg, group, yaml.safe_load(name), merge=False)
        elif name == "none":
            cfg[group] = {"_target_": None}
        else:
            cfg[group] = option(group, name)
    for key, value in SMALLER.items():
        if OmegaConf.select(cfg, key) is not None:
            OmegaConf.update(cfg, key, value)
    OmegaConf.resolve(cfg)
    return cfg


METHODS = options("method")
CHOICES = [*KEYS, *(f"{slot}={name}" for slot in SLOTS for name in options(slot))]


def outcome(method: str, choice: str, folder: Path) -> str:
    """Return '' if a run works, the refusal if it is refused before anything is trained."""
    cfg = configured(method, choice)
    try:
        check_parts(cfg)
    except ConfigError as error:
        return str(error)
    run = RunFolder(folder)
    run.open(overrides=[], seed=0)
    memory = InMemory()
    try:
        launch.run(cfg, run, memory)
    except FedfuseError as error:
        told = str(error)
        assert not memory.records, f"{method} with {choice} failed in training: {told}"
        return told
    return ""


@pytest.mark.parametrize("method", METHODS)
def test_a_method_with_an_option_runs_or_is_refused_before_training(
    method: str, tmp_path: Path
) -> None:
    """A sample of the cross: every method once, with one option after the other."""
    choice = CHOICES[METHODS.index(method) * 5 % len(CHOICES)]
    refused = outcome(method, choice, tmp_path / "run")
    assert not refused or "Set " in refused or "Choose " in refused or "Use " in refused


def test_every_pair_is_decided_by_the_table() -> None:
    """What concerns predictions is refused with every exchange of something else, and only then."""
    fusing = ("student", "cache", "uptake", "augment", "request", "wish")
    slots = ("extract", "privacy", "attack", "codec", "familiarity", "filter", *fusing)
    exchanges = ("fd", "fedproto", "fedavg", "feddf", "ditto", "fml", "centralised")
    for method, slot in itertools.product(("mean", "local", *exchanges), slots):
        cfg = configured(method, f"{slot}={options(slot)[-1]}")
        predicts = cfg.exchange._target_.endswith(".Predictions")
        try:
            capabilities.check(cfg)
        except ConfigError as error:
            told = str(error)
            fused = slot in fusing and method == "local"
            other = "confidence" in told or "public samples differ" in told or "level" in told
            assert not predicts or fused or other, told
            if not predicts:
                assert f"{slot}=" in told, told
        else:
            assert predicts, (method, slot)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fedavg trainer=batched", "Averaged trains more than .*got trainer=batched"),
        ("fedavg rule=krum", "A rule fuses predictions.*rule=krum, exchange=averaged"),
        ("fedavg privacy=gaussian", "privacy=gaussian, exchange=averaged.*privacy=none"),
        ("fedavg extract=probabilities", "extract=probabilities, .*Set extract=logits"),
        ("fedavg attack=imitate", "An attack forges predictions"),
        ("fedavg codec=fp16", "A codec writes predictions"),
        ("fedavg familiarity=kulsif", "Familiarity says which predictions"),
        ("fedavg filter=ambiguity", "A filter leaves fused predictions out"),
        ("fedavg guard=validation", "A guard weighs what was distilled"),
        (
            "mean merge=task_arithmetic",
            "A merge makes .*merge=taskarithmetic, exchange=predictions",
        ),
        ("local merge=task_arithmetic", "merge=taskarithmetic, exchange=predictions"),
        ("fedproto merge=task_arithmetic", "exchange=prototypes.*Set merge=mean, or"),
        ("centralised merge=task_arithmetic", "merge=taskarithmetic, exchange=pooled"),
        ("ditto merge=dare", None),
        ("pfedme merge=task_arithmetic", None),
        ("apfl guard=sequential", "guard=sequential, exchange=apfl"),
        ("feddf merge=opcm", None),
        ("mean server.student_selects=true", "has no model.*student_selects=true, student=none"),
        ("fedmd student=mlp server.student_selects=true", "loss compares logits.*maelogits"),
        ("fedgems augment=partial_mixup", "labels of the public samples|makes others of them"),
        ("mean student=mlp server.student_selects=true augment=partial_mixup", "makes others"),
        ("mean student=mlp server.student_selects=true", None),
        ("fedgems student=none", "has no model"),
        ("fedgkt student=mlp", "student=mlp, method=fedgkt"),
        ("fedgkt attack=random_logits", "attack=randomlogits, exchange=groupknowledge"),
        ("fedcache cache=rounds", "A cache keeps fused predictions"),
        ("feddkc privacy=gaussian", "privacy=gaussian.*exchange=groupknowledge"),
        ("task_arithmetic client.init=per_client", "from one start.*client.init=per_client"),
        (
            "task_arithmetic client.init=per_client merge_base=first",
            "or set merge_base=last_or_mean",
        ),
        ("task_arithmetic client.init=per_client merge_base=last_or_mean", None),
        ("fml merge=task_arithmetic client.init=per_client", None),
        ("fedkd merge=task_arithmetic", "merge=taskarithmetic, exchange=mutual.*Set merge=mean"),
        ("fedkd faults=stragglers", "off by it.*faults=stragglers, exchange=mutual.*low_rank=0"),
        ("fedkd server.fail_fast=false", "server.fail_fast=false, exchange=mutual.*fail_fast=true"),
        ("fedkd faults=stragglers server.fail_fast=false exchange.low_rank=0", None),
        ("fml faults=stragglers server.fail_fast=false", None),
        ("fedavg client.init=per_client", None),
        ("task_arithmetic continue_from=somewhere", "one start.*continue_from=somewhere"),
        ("fedavg continue_from=somewhere", None),
        ("fedavg participation=held_in", "More clients .*clients=8 with num_clients=3"),
        ("fedavg participation=held_in participation.clients=3", None),
        ("fedavg guard=sequential", "guard=sequential, exchange=averaged"),
        (
            "knfu guard=sequential val_fraction=0",
            "nobody holds any back: got val_fraction=0",
        ),
        ("local student=mlp", "student=mlp, method=local"),
        ("fedavg uptake=gap", "An uptake changes .*uptake=gap, method=fedavg"),
        ("fedavg augment=partial_mixup", "An augmentation changes .*augment=none"),
        ("local augment=mix_distribution", "augment=mixdistribution, method=local"),
        ("feddf augment=partial_mixup", "augment=partialmixup, method=feddf"),
        ("scarlet augment=partial_mixup", "A cache keeps .*cache=signalcache.*augment=none"),
        ("cfd augment=partial_mixup", "what has changed in the answers of public.*codec=cfd"),
        ("kafal augment=partial_mixup", "The exchange keeps what was said .*exchange=predictions"),
        ("mulki augment=partial_mixup", "uptake remembers .*uptake=twoteachers"),
        (
            "logit_arithmetic rule.reference=previous augment=partial_mixup",
            "rule remembers .*rule=logitarithmetic",
        ),
        ("mean server.persuasion=true augment=partial_mixup", "How far .*augment=none"),
        (
            "mean guard=sequential guard.public_fold=0.2 augment=partial_mixup",
            "mixes them in: got augment=partialmixup, guard.public_fold=0.2",
        ),
        ("mrr augment=partial_mixup", "scorer needs labels .*scorer=reciprocalrank"),
        ("bidirectional rule.by=label augment=partial_mixup", "rule needs labels .*by=max_prob"),
        ("mean uptake=gap uptake.by=label augment=partial_mixup", "uptake needs labels"),
        ("ap_at_k augment=partial_mixup", "distill needs labels .*distill=kl"),
        ("mean request=curriculum augment=partial_mixup", "request remembers .*request=curriculum"),
        ("mean request=curriculum augment=mix_distribution", None),
        ("mean wish=on_demand augment=partial_mixup", None),
        ("mean augment=generator", "model of the server's own.*student=none"),
        ("hard_augment scorer=reciprocal_rank", None),
        ("data_free cache=rounds", "A cache keeps .*augment=samplegenerator"),
        ("mrr augment=partial_mixup augment.keep=1", None),
        ("scarlet augment=mix_distribution", None),
        ("kafal augment=mix_distribution", None),
        ("mrr augment=mix_distribution augment.consistency=false", None),
        ("scarlet augment=mix_distribution augment.consistency=false", "A cache keeps"),
        ("mean select=random augment=partial_mixup", None),
        ("fedmd_pretrained augment=partial_mixup", None),
        ("local uptake=homeostatic", "uptake=homeostatic, method=local"),
        ("fd uptake=two_teachers", "An uptake changes .*uptake=twoteachers, method=fd"),
        ("fedavg uptake=clock", "An uptake changes .*uptake=clock, method=fedavg"),
        ("mean uptake=clock", "KL does not ask for the clock.*uptake=clock, distill=kl"),
        ("taid uptake=gap", "TAID wants to know each client's clock, .*got uptake=gap"),
        ("fedavg request=curriculum", "A request asks .*request=curriculum, method=fedavg"),
        ("local request=curriculum", "A request asks .*Set request=none"),
        ("fedavg wish=on_demand", "A wish is for .*wish=ondemand, method=fedavg"),
        ("mean request=curriculum cache=rounds", "A cache decides .*got request=.*cache="),
        ("mean wish=on_demand cache=rounds", "A cache sends .*Set cache=none, or wish=none"),
        ("mean request=curriculum wish=on_demand", None),
        ("taid student=mlp", "TAID wants .* the server's own model does not have"),
        ("taid trainer=batched", None),
        (
            "mean rule=logit_arithmetic rule.reference=previous select=random",
            "same samples a round ago.*select=random",
        ),
        ("mean rule=logit_arithmetic select=random", None),
        (
            "logit_arithmetic rule.experts=4 num_clients=33",
            "several experts.*num_clients=33.*at most 32 clients.*many_experts=true",
        ),
        ("logit_arithmetic rule.experts=3 num_clients=33", None),
        ("knfu rule=logit_adjusted", "rule=logitadjusted, client.share_class_distribution=false"),
        (
            "aligned_rows attack=random_logits",
            "would be honest: got attack=randomlogits, exchange.shown.estimate=true",
        ),
        ("aligned_rows attack=random_logits exchange.shown.estimate=false", None),
        ("aligned_rows attack=label_flip", None),
        ("local exchange=aligned_rows", "server that fuses predictions.*got method=local"),
        ("local exchange=kept_teacher", "A kept teacher is one .*got method=local"),
        ("knfu exchange=kept_teacher budget=samples", "kept_teacher with budget=samples"),
        ("prior_free client.share_class_distribution=false", "label histogram.*rule=logitadjusted"),
        ("bidirectional scorer=by_class", "one weight for all.*scorer=byclass, rule=bettersources"),
        ("creamfl_logits scorer=by_class", "one weight for all.*rule=contrastive"),
        ("vida_gate scorer=by_class scorer.evidence=epd", None),
        ("fedavg rule=homeostatic", "A rule fuses predictions.*rule=homeostaticmix"),
        ("mrr scorer.per_class=true", "label histogram.*share_class_distribution=false"),
        ("fedavg cache=rounds", "A cache keeps fused predictions"),
        (
            "knfu sites=own sites.paths=[a.npz] evaluation.own_test_shift=0.5",
            "a site knows its own clients' only: got evaluation.own_test_shift=0.5",
        ),
        ("knfu evaluation.own_test_shift=1", None),
        ("knfu num_clients=1 attack=imitate", "somebody to attack: got num_clients=1"),
        ("local pretrain=public pretrain.baseline=false", "Nobody would pre-train"),
        ("median scorer=by_class", "one weight for all.*scorer=byclass, rule=coordinatemedian"),
        ("local scorer=by_class", None),
        ("median scorer=by_class scorer.exponent=0", None),
        ("mean scorer=by_class", "label histogram.*share_class_distribution=false"),
        ("mean scorer=by_class scorer.evidence=epd", None),
        ("knfu scorer.epd=label_histogram", "label histogram.*share_class_distribution=false"),
        ("knfu rule=uploaded_confidence", "they send none: got familiarity=none"),
        ("uwa familiarity=kulsif", "kulsifselector, which is a mask"),
        ("uwa familiarity=nearest_centre", "nearestcentre, which is a mask"),
        ("fedaux familiarity=gaussian", "logarithms of a density: got familiarity=gaus"),
        ("knfu codec=delta select=random", "got select=randomsubset"),
        ("fedmd extract=probabilities", "extract=probabilities, distill=maelogits"),
        ("fedmd sharpen=era", "MAELogits compares logits.*sharpen=era"),
        ("mean distill=mse", "rule=meanprobabilities, sharpen=none, distill=mselogits"),
        ("knfu baseline=local method.name=local", "name=local is what local training is called"),
        ("fd local_loss=balanced_softmax", "a loss of its own .*local_loss=balancedsoftmax"),
        ("fedavg extract=adjusted", "What is extracted is of predictions"),
        ("fedproto evaluation.prior=add", "distances to prototypes: got evaluation.prior=add"),
        ("mean_adjusted evaluation.prior=subtract", "taken out twice.*Set evaluation.prior=add"),
        ("local evaluation.prior=add baseline=local", "Choose another .* method=local_adjusted"),
        ("dist trainer=batched", "DIST relates the samples of a client's batch.*trainer=batched"),
        ("dist trainer=auto", None),
        ("rhfl exchange=predictions", "none of them tells: got scorer=clientconfidence"),
        ("rhfl scorer=uniform", "nobody reads it: got exchange=lossrated, scorer=uniform"),
        ("rhfl privacy=label_only", "their private loss would leave bare: got privacy="),
        ("rhfl codec=uint8", None),
        ("rhfl attack=label_flip", None),
        ("local local_loss=symmetric_ce baseline=local", "Choose another name"),
        ("fccl rule=mean_probs", "compares logits, but the fusion rule .* gives probabilities"),
        ("fccl trainer=batched", "FCCL trains more than the clients' own models"),
        ("local exchange=fccl", "shares nothing: got rule=none, exchange=fccl"),
        ("fccl_plus codec=uint8", "travel as it is, 4 bytes .*Set codec=none, or exchange=pred"),
        ("local distill=dist trainer=batched", None),
        ("local_adjusted local_loss=ce", "name=local_adjusted is what local training is called"),
        ("local_adjusted local_loss.tau=0.5", "name=local_adjusted is what local training"),
        ("mean_adjusted method.name=local_adjusted", "name=local_adjusted is what local"),
        ("fedproto evaluation.prior=add exchange.inference=head", None),
        ("fedproto local_loss=balanced_softmax", None),
        ("centralised local_loss=balanced_softmax evaluation.prior=add", None),
        ("fedmd evaluation.prior=subtract", None),
        ("local_adjusted prior.tau=0.5 local_loss.tau=0.5", None),
        ("mean cache=rounds", None),
        ("fedaux familiarity=gaussian familiarity.standardise=rank", None),
        ("fedmd", None),
        ("local codec=fp16 privacy=gaussian filter=ambiguity distill=mse", None),
        ("local baseline=local", None),
    ],
)
def test_a_configuration_alone_decides_these(line: str, words: str | None) -> None:
    cfg = configured(*line.split())
    if words is None:
        check_parts(cfg)
    else:
        with pytest.raises(ConfigError, match=f"(?s){words}"):
            check_parts(cfg)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("local_loss.tau=-1", "'tau' parameter of BalancedSoftmax .*got -1, .*at least 0"),
        ("local_loss.floor=.nan", "'floor' parameter of BalancedSoftmax .*got nan"),
        ("extract.floor=0", "'floor' parameter of Adjusted .*got 0, .*above 0"),
        ("extract.tau=true", "'tau' parameter of Adjusted .*got True"),
        ("extract.tau=one", "'tau' parameter of Adjusted .*got 'one'"),
    ],
)
def test_a_prior_has_a_strength_and_a_floor(key: str, words: str) -> None:
    with pytest.raises(FedfuseError, match=words):
        check_parts(configured("mean_adjusted", key))


@pytest.mark.parametrize(
    ("method", "key", "words"),
    [
        ("bidirectional", "rule.margin=-1.0", "'margin' parameter of BetterSources .*got -1"),
        ("bidirectional", "rule.by=entropy", "'by' parameter of BetterSources .*got 'entropy'"),
        ("vida_gate", "rule.per=client", "'per' parameter of HomeostaticMix .*got 'client'"),
        ("vida_gate", "rule.threshold=20", "'threshold' parameter of HomeostaticMix .*got 20"),
        ("creamfl_logits", "rule.block=0", "'block' parameter of Contrastive .*got 0"),
        ("fedkd", "exchange.low_rank=1.5", "'low_rank' parameter of Mutual .*got 1.5"),
        ("fedtgp", "exchange.by_count=true", "'by_count' parameter of Prototypes .*got True"),
        ("fedtgp", "exchange.soft_weight=1", "'soft_weight' parameter of Prototypes .*got 1"),
        ("fedhkd", "exchange.noise=-1", "'noise' parameter of Prototypes .*got -1"),
        ("fedtgp", "exchange.trained.margin=-1", "'margin' parameter of Trained .*got -1"),
        ("fedgh", "exchange.server_epochs=0", "'server_epochs' parameter of GlobalHeader .*got 0"),
        ("fedkd", "exchange.weighing=some", "'weighing' parameter of Mutual .*got 'some'"),
        ("fedgems", "rule.average=mean", "'average' parameter of RightAndSure .*got 'mean'"),
        ("fedgems", "distill.share=2", "'share' parameter of WithLabels .*got 2"),
        ("fedcache", "exchange.neighbours=0", "'neighbours' parameter of KnowledgeCache .*got 0"),
        ("feddkc", "exchange.refine=entropie", "'refine' parameter .*Did you mean 'entropy'"),
        ("fedntd", "exchange.ntd_weight=-1", "'ntd_weight' parameter of Averaged .*got -1"),
        ("creamfl_logits", "rule.tau=.nan", "'tau' parameter of Contrastive .*got nan"),
    ],
)
def test_a_rule_says_what_it_cannot_be_set_to(method: str, key: str, words: str) -> None:
    with pytest.raises(FedfuseError, match=words):
        check_parts(configured(method, key))


def test_a_client_without_samples_has_no_prior() -> None:
    data = build_parts(compose.configure([*TINY, "method=mean"])).data
    first, *others = data.clients
    empty = replace(first, train=first.train[:0])
    data = replace(data, clients=(empty, *others))
    capabilities.check(configured("mean"), data)
    with pytest.raises(ConfigError, match=r"some have none: got clients \[0\]"):
        capabilities.check(configured("mean", "local_loss=balanced_softmax"), data)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("public=noise scorer.epd=prior_corrected", "The scorer KnFu needs labels"),
        ("public=noise method=mrr", "The scorer ReciprocalRank needs labels"),
        ("public=noise method=probe", "The scorer NearestNeighbourProbe needs labels"),
        (
            "method=probe select=random select.size=2",
            "parts the public samples in two: got 2 public samples",
        ),
        ("public=noise method=gradient_agreement", "The scorer GradientAgreement needs labels"),
        ("public=noise method=fedavg_public", "The exchange Averaged needs labels"),
        ("public=noise pretrain=public", "Pre-training needs labels"),
        ("public=noise select=class_balanced", "ClassBalanced needs labels"),
        ("public=noise uptake=gap uptake.by=label", "The uptake Gap needs labels"),
        ("public=noise request=curriculum request.by=label", "requester Curriculum needs labels"),
        ("public=noise method=bidirectional rule.by=label", "The rule BetterSources needs labels"),
        ("method=vida_gate cache=rounds", "makes one for each: got method=vida_gate"),
        ("method=std_kd dataset.num_classes=2", "StandardisedKL makes no sense for so few"),
        ("public=noise method=fedgems", "labels of the public set, which has none|none for it"),
        (
            "public=noise method=mean student=mlp server.student_selects=true",
            "The server selects by public labels .*none for it.*public=held_out",
        ),
        ("public=noise method=ap_at_k", "The distillation loss APAtK needs labels"),
        (
            "method=ap_at_k distill.k=11",
            "got 10 classes, allowed: 11 classes or more. Set distill.k",
        ),
        (
            "method=fedntd dataset.num_classes=2",
            "FedNTD compares .*got 2 classes, allowed: 3 or more. Set exchange.ntd_weight=0",
        ),
        (
            "method=fccl_plus dataset.num_classes=2",
            r"FCCL\+ compares .*got 2 classes, allowed: 3 or more. Set exchange.inter=0",
        ),
        ("method=dkd dataset.num_classes=2", "DKD makes no sense for so few classes: got 2"),
        ("method=knfu cache=rounds", "makes one for each: got method=knfu, cache=signalcache"),
        ("public=noise scorer.epd=prior_corrected method=local", None),
    ],
)
def test_these_take_the_data(line: str, words: str | None, tmp_path: Path) -> None:
    cfg = compose.configure([*TINY, *line.split()])
    run, memory = RunFolder(tmp_path / "run"), InMemory()
    run.open(overrides=[], seed=0)
    if words is None:
        launch.run(cfg, run, memory)
        return
    with pytest.raises(ConfigError, match=words):
        launch.run(cfg, run, memory)
    assert not memory.records


LABELLED = """
class Labelled:
    needs_labels = True
    def __call__(self, bank, weights, labels):
        return bank.logits.softmax(-1)
"""


@pytest.mark.parametrize("around", ["", "own_or_fused", "logit_adjusted"])
def test_a_rule_that_needs_labels_is_refused_without_them_by_its_name(
    around: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labelled_rules.py").write_text(LABELLED)
    monkeypatch.syspath_prepend(str(tmp_path))
    where, shares = "rule", "client.share_class_distribution=true"
    cfg = configured("mean", shares, *([f"rule={around}"] if around else []))
    if around:
        where = "rule.inner"
    OmegaConf.update(cfg, where, {"_target_": "labelled_rules.Labelled"}, merge=False)
    data = build_parts(compose.configure([*TINY, "method=mean"])).data
    capabilities.check(cfg, data)
    unlabelled = replace(data, public=replace(data.public, labels=None))
    with pytest.raises(ConfigError, match="The rule Labelled needs labels of the public set"):
        capabilities.check(cfg, unlabelled)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("method=fedavg_public", "exchange.public=pseudo_labels"),
        ("method=mrr", "scorer=uniform"),
        ("method=bidirectional rule.by=label", "rule=mean_probs"),
        ("method=mean uptake=gap uptake.by=label", "uptake=none"),
        ("method=ap_at_k", "distill=kl"),
    ],
)
def test_public_labels_of_other_classes_are_refused(line: str, step: str) -> None:
    cfg = compose.configure([*TINY, *line.split()])
    data = build_parts(cfg).data
    capabilities.check(cfg, data)
    assert data.public.labels is not None
    other = replace(data, public=replace(data.public, labels=data.public.labels + 1))
    with pytest.raises(ConfigError, match=f"other classes .*got 1 to 10.*Set {step}, or public"):
        capabilities.check(cfg, other)


def test_a_sweep_is_refused_before_its_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*TINY, "method=mean,fedavg", "codec=fp16", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    assert main(["-m", *lines]) == 2
    assert "codec=float16, exchange=averaged" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


class Misspelt(RowCodec):
    """Declares what nothing reads."""

    needs_fixed_publicset = True


def test_what_nobody_would_understand_is_said_to_a_parts_author() -> None:
    with pytest.raises(CheckFailed, match="did you mean 'needs_fixed_public_set'"):
        check_codec(Misspelt(Float32()))

    def by_size(labels: Any, num_clients: int, rng: np.random.Generator) -> Any:
        return np.array_split(rng.permutation(len(labels)), num_clients)

    assert wrong_declaration(by_size, "partitioner") is None
    by_size.deals_rows = 1  # type: ignore[attr-defined]
    assert wrong_declaration(by_size, "partitioner") == (
        "declares deals_rows=1; allowed: True or False"
    )
    by_size.deals_rows = True  # type: ignore[attr-defined]
    assert wrong_declaration(by_size, "partitioner") is None
