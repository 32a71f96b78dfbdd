"""What goes with what: every combination of parts that cannot work, as one table.

A part says what it needs by declarations (:mod:`fedfuse.declarations`); what gives it is looked up
here; the rows about rules, merges, label priors, losses and public samples lie beside this file.
The rows that a configuration alone decides are asked of every run of a sweep before the
first begins, all others when the data is there and nothing has been trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig

from experiments.assembly.augment_clashes import OF_AUGMENTS
from experiments.assembly.change_clashes import OF_CHANGES
from experiments.assembly.chosen import Chosen, Clash, not_fused, one_for_all
from experiments.assembly.feature_clashes import OF_FEATURES
from experiments.assembly.loss_clashes import OF_LOSSES, OF_TRAINERS
from experiments.assembly.merge_clashes import OF_MERGES
from experiments.assembly.prior_clashes import OF_PRIORS
from experiments.assembly.probe_clashes import OF_PROBES
from experiments.assembly.public_label_clashes import OF_PUBLIC_LABELS
from experiments.assembly.public_sample_clashes import OF_PUBLIC_SAMPLES
from experiments.assembly.request_clashes import OF_REQUESTS
from experiments.assembly.rule_clashes import OF_RULES
from experiments.assembly.scored_clashes import OF_SCORES
from experiments.assembly.student_clashes import OF_STUDENTS
from experiments.assembly.text_clashes import OF_TEXTS
from experiments.assembly.training_clashes import OF_TRAINING
from experiments.config.plain import Settings, settings
from fedfuse.codec import channel_of
from fedfuse.declarations import part_name
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.participation import HeldIn
from fedfuse.protocols import ModelPlan
from fedfuse.select import All
from fedfuse.types import FederatedData, Space
from fedfuse.user_code import is_foreign


def check(
    cfg: DictConfig | Settings,
    data: FederatedData | None = None,
    models: ModelPlan | None = None,
    pipeline: Pipeline | None = None,
    parts: Mapping[str, Any] | None = None,
) -> None:
    """Raise ConfigError for the first combination of parts that cannot work.

    Args: as of :class:`~experiments.assembly.chosen.Chosen`; ``parts`` are built already.
    """
    values = cfg if isinstance(cfg, Settings) else settings(cfg)
    chosen = Chosen(values, data, models, pipeline, dict(parts or {}))
    for clash in CLASHES:
        clash.check(chosen)


def _of_predictions() -> Iterator[Clash]:
    """Yield a row for each slot that has to do with predictions only."""
    for slot, does, off in (
        ("rule", "A rule fuses predictions", "rule=none"),
        ("privacy", "A privacy mechanism protects predictions", "privacy=none"),
        ("extract", "What is extracted is of predictions", "extract=logits"),
        ("attack", "An attack forges predictions", "attack=none"),
        ("codec", "A codec writes predictions", "codec=none"),
        ("familiarity", "Familiarity says which predictions a client answers for",
         "familiarity=none"),
        ("filter", "A filter leaves fused predictions out", "filter=none"),
    ):  # fmt: skip
        yield Clash(
            f"{does}, and this method exchanges something else",
            partial(_not_of_predictions, slot=slot),
            f"Set {off}, or choose a method that exchanges predictions.",
        )


def _not_of_predictions(chosen: Chosen, slot: str) -> str | None:
    plain = "fedfuse.extract.Logits" if slot == "extract" else None
    chose = chosen.cfg[slot]._target_ != plain
    if slot == "rule" and is_foreign(chosen.part("exchange")):
        return None  # beside an exchange of one's own it stands in any method, and is not asked
    return chosen.named(slot, "exchange") if chose and not chosen.predicts else None


def _guard(chosen: Chosen) -> str | None:
    wrong = chosen.cfg.guard._target_ is not None and not chosen.predicts
    return chosen.named("guard", "exchange") if wrong else None


def _guards_nothing(chosen: Chosen) -> str | None:
    empty = chosen.cfg.val_fraction == 0 and chosen.cfg.sites._target_ is None
    return "val_fraction=0" if chosen.cfg.guard._target_ is not None and empty else None


def _no_fold(chosen: Chosen) -> str | None:
    if not getattr(chosen.part("guard"), "public_fold", 0.0):
        return None
    if chosen.part("pretrain") is not None:
        return chosen.named("pretrain")
    unknown = chosen.data is not None and chosen.data.public.labels is None
    return f"public set: {chosen.data.public.source}" if unknown else None  # type: ignore[union-attr]


def _nobody_pretrains(chosen: Chosen) -> str | None:
    pretraining = chosen.part("pretrain")
    if pretraining is None or pretraining.baseline or chosen.fuses or not chosen.predicts:
        return None
    return f"pretrain.baseline=false with method={chosen.cfg.method.name}"


def _moving_samples(chosen: Chosen) -> str | None:
    codec = channel_of(chosen.part("codec"))
    moves = not isinstance(chosen.part("select"), All)
    return chosen.named("select") if moves and codec.needs_fixed_public_set else None


def _other_samples(chosen: Chosen) -> str | None:
    kept = isinstance(chosen.part("select"), All) and chosen.part("cache") is None
    same = chosen.fuses and chosen.predicts and kept
    asked = chosen.cfg.server.persuasion and not same
    return chosen.named("exchange", "rule", "select", "cache") if asked else None


def _personal(chosen: Chosen) -> str | None:
    if chosen.part("cache") is None or chosen.pipeline is None or chosen.data is None:
        return None
    if one_for_all(chosen.pipeline, chosen.data.num_classes):
        return None
    return f"method={chosen.cfg.method.name}, {chosen.named('cache')}"


def _wants_logits(chosen: Chosen) -> bool:
    return chosen.fuses and chosen.predicts and chosen.space("distill") is Space.LOGITS


def _levels_lost(chosen: Chosen) -> str | None:
    lost = _wants_logits(chosen) and chosen.space("extract") is Space.PROBABILITIES
    return chosen.named("extract", "distill") if lost else None


def _no_logits(chosen: Chosen) -> str | None:
    sharpens = chosen.part("sharpen") is not None
    lost = sharpens or (chosen.fuses and chosen.space("rule") is Space.PROBABILITIES)
    return chosen.named("rule", "sharpen", "distill") if _wants_logits(chosen) and lost else None


def _elsewhere(chosen: Chosen, needs: str) -> str | None:
    if chosen.data is None or not chosen.needs("exchange", needs):
        return None
    away = [client.client_id for client in chosen.data.clients if not len(client.train)]
    return f"no data of the clients {away[:10]}" if away else None


def _attacks_nobody(chosen: Chosen) -> str | None:
    alone = chosen.cfg.attack._target_ is not None and chosen.cfg.num_clients < 2
    return f"num_clients={chosen.cfg.num_clients}" if alone else None


def _holds_in_nobody(chosen: Chosen) -> str | None:
    sampler, there = chosen.part("participation"), chosen.cfg.num_clients
    many = isinstance(sampler, HeldIn) and sampler.clients > there
    return f"participation.clients={sampler.clients} with num_clients={there}" if many else None


def _sites_shift(chosen: Chosen) -> str | None:
    shift = chosen.cfg.evaluation.own_test_shift
    owned = chosen.cfg.sites._target_ is not None
    return f"evaluation.own_test_shift={shift}" if shift and owned else None


def _begins_twice(chosen: Chosen) -> str | None:
    run, twice = chosen.cfg.continue_from, chosen.cfg.pretrain._target_ is not None
    return f"continue_from={run} with {chosen.named('pretrain')}" if run and twice else None


def _shadows_know(chosen: Chosen) -> str | None:
    tests = chosen.cfg.evaluation
    know = chosen.cfg.continue_from is not None and tests.membership and tests.shadow_models
    return "continue_from with evaluation.membership=true" if know else None


CLASHES: tuple[Clash, ...] = (
    *OF_TRAINERS,
    *_of_predictions(),
    Clash(
        "A guard weighs what was distilled, and this method exchanges something else",
        _guard,
        "Set guard=none, or choose a method that exchanges predictions.",
    ),
    Clash(
        "A guard asks a client's validation data, and nobody holds any back",
        _guards_nothing,
        "Set guard=none, or val_fraction=0.1.",
        lambda _: "val_fraction above 0",
    ),
    Clash(
        "The guard keeps public samples out of all lessons to bet on labels that no model has seen",
        _no_fold,
        "Set guard.public_fold=0.",
    ),
    *OF_STUDENTS,
    Clash(
        "An uptake changes what clients distil of fused predictions, and this method has none",
        partial(not_fused, slot="uptake"),
        "Set uptake=none, or choose a method that fuses predictions.",
    ),
    Clash(
        "An augmentation changes the samples that clients predict, and this method fuses no "
        "predictions",
        partial(not_fused, slot="augment"),
        "Set augment=none, or choose a method that fuses predictions.",
    ),
    Clash(
        "A cache keeps fused predictions, and this method has none",
        partial(not_fused, slot="cache"),
        "Set cache=none, or choose a method that fuses predictions.",
    ),
    *OF_REQUESTS,
    Clash(
        "The cache keeps one target for all clients, and the method makes one for each",
        _personal,
        "Set cache=none, or a scorer and a rule alike for all, as in method=mean.",
        from_data=True,
    ),
    Clash(
        "An attack needs somebody to attack",
        _attacks_nobody,
        "Set num_clients=2 or more, or attack=none.",
        lambda _: "2 clients or more",
    ),
    *OF_FEATURES,
    Clash(
        "More clients are to take part than there are",
        _holds_in_nobody,
        "Set participation.clients to no more than num_clients.",
    ),
    *OF_PUBLIC_LABELS,
    *OF_PUBLIC_SAMPLES,
    *OF_AUGMENTS,
    Clash(
        "Nobody would pre-train: the method is the baseline itself",
        _nobody_pretrains,
        "Set pretrain.baseline=true.",
    ),
    Clash(
        "Own tests move to another client's classes, and a site knows its own clients' only",
        _sites_shift,
        "Set evaluation.own_test_shift=0.",
    ),
    Clash(
        "clients begin with the models of a run or with pre-training, not with both",
        _begins_twice,
        "Set pretrain=none, or leave continue_from out.",
    ),
    Clash(
        "shadow models would begin with models that have seen whom they are to tell apart",
        _shadows_know,
        "Set evaluation.shadow_models=0.",
    ),
    *OF_RULES,
    *OF_MERGES,
    *OF_CHANGES,
    Clash(
        "The codec sends what has changed since the last round, and the public samples differ from "
        "round to round",
        _moving_samples,
        "Set codec.delta=false, or select=all.",
    ),
    Clash(
        "How far clients move is told from their predictions of the same samples in every round",
        _other_samples,
        "Set server.persuasion=false, or fuse predictions with select=all and cache=none.",
    ),
    Clash(
        "The loss matches the models' own logits, and of probabilities nobody can tell at which "
        "level those were",
        _levels_lost,
        "Set distill=kl or distill=soft_ce, or extract=logits.",
    ),
    Clash(
        lambda chosen: (
            f"The distillation loss {part_name(chosen.part('distill'))} compares "
            "logits, but the fusion rule (or its sharpening) gives probabilities"
        ),
        _no_logits,
        "Choose rule=mean_logits sharpen=none, or distill=kl.",
    ),
    Clash(
        "Training on all private data needs them in one place",
        partial(_elsewhere, needs="needs_all_private_data"),
        "Leave out method=centralised where sites keep their own data.",
        from_data=True,
    ),
    Clash(
        "What clients send of their private samples is as long as these are many, and nobody tells "
        "the server how many a site has",
        partial(_elsewhere, needs="needs_sample_counts"),
        "Choose a method that shares predictions where sites keep their own data.",
        from_data=True,
    ),
    *OF_LOSSES,
    *OF_PRIORS,
    *OF_TEXTS,
    *OF_PROBES,
    *OF_SCORES,
    *OF_TRAINING,
)
"""Every combination that cannot work. One that needs another part of the same run to be refused
comes after that part's own row, so that the first message is the nearest to the mistake."""
