"""What goes with a rule that fuses: what it needs of clients, samples and the scorer."""

from __future__ import annotations

from experiments.assembly.chosen import Chosen, Clash
from experiments.config.targets import target_name
from fedfuse.declarations import FEW_CLIENTS, declared
from fedfuse.fusion.returned import NO_CLASS_WEIGHTS, USE_CLASS_WEIGHTS
from fedfuse.select import All


def _histogram(chosen: Chosen) -> str | None:
    allowed = chosen.cfg.client.share_class_distribution
    needs = [slot for slot in ("scorer", "rule") if chosen.needs(slot, "needs_class_distribution")]
    wrong = chosen.fuses and needs and not allowed
    return f"{chosen.named(*needs)}, client.share_class_distribution=false" if wrong else None


def _class_weights(chosen: Chosen) -> str | None:
    cannot = chosen.fuses and not chosen.needs("rule", "by_class")
    return chosen.named("scorer", "rule") if cannot and chosen.needs("scorer", "by_class") else None


def _confidence(chosen: Chosen) -> str | None:
    if not (chosen.fuses and chosen.needs("rule", "needs_confidence")):
        return None
    gives = _gives(chosen)
    what = "none" if gives is None else f"{target_name(chosen.cfg.familiarity)}, which is a mask"
    return f"familiarity={what}" if gives in (None, "mask") else None


def _logarithms(chosen: Chosen) -> str | None:
    wants = chosen.fuses and chosen.needs("rule", "needs_positive_confidence")
    return chosen.named("familiarity") if wants and _gives(chosen) == "log_density" else None


def _gives(chosen: Chosen) -> str | None:
    measure = chosen.part("familiarity")
    return None if measure is None else declared(measure, "gives", "confidence")


def _moving_reference(chosen: Chosen) -> str | None:
    fixed = chosen.fuses and chosen.needs("rule", "needs_fixed_public_set")
    return chosen.named("select") if fixed and not isinstance(chosen.part("select"), All) else None


def _too_many(chosen: Chosen) -> str | None:
    many = chosen.fuses and chosen.cfg.num_clients > FEW_CLIENTS
    wrong = many and chosen.needs("rule", "needs_few_clients")
    return f"num_clients={chosen.cfg.num_clients}" if wrong else None


OF_RULES = (
    Clash(NO_CLASS_WEIGHTS, _class_weights, USE_CLASS_WEIGHTS),
    Clash(
        "Scorer or rule need each client's label histogram, which may not leave the client",
        _histogram,
        "Set client.share_class_distribution=true to allow it.",
    ),
    Clash(
        "The rule weighs answers by the confidence that clients send with them, and they send none",
        _confidence,
        "Set familiarity=gaussian or familiarity=auxiliary.",
    ),
    Clash(
        "The rule takes confidences from 0 up, and what clients send are logarithms of a density",
        _logarithms,
        "Set rule.form=softmax, or familiarity=auxiliary.",
    ),
    Clash(
        "The rule compares with what was said of the same samples a round ago, and the public "
        "samples differ from round to round",
        _moving_reference,
        "Set select=all; for rule=logit_arithmetic rule.reference=mean will do as well.",
    ),
    Clash(
        "The rule tries several experts on every sample, which takes long with so many clients",
        _too_many,
        "Set rule.experts=3, or rule.many_experts=true to wait for it.",
        lambda _: f"at most {FEW_CLIENTS} clients",
    ),
)
