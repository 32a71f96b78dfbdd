"""What goes with public samples that are changed before everybody answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from experiments.assembly.chosen import Chosen, Clash
from experiments.assembly.public_label_clashes import needs_labels
from fedfuse.codec import channel_of
from fedfuse.declarations import declared


def changes_samples(chosen: Chosen) -> bool:
    """Tell whether every round's answers are about other samples."""
    augment = chosen.part("augment")
    return augment is not None and not declared(augment, "lesson_only", False)


def _remember(chosen: Chosen, slot: str) -> bool:
    """Tell whether the part of a slot relates a round's public samples to those of another one."""
    part = chosen.part(slot)
    if slot == "cache":
        return part is not None
    if slot == "codec":
        return channel_of(part).needs_fixed_public_set
    if slot == "exchange":
        kept = getattr(part, "kept_teacher", None) is not None
        return kept or bool(declared(part, "remembers_samples", False))
    keeps = "needs_fixed_public_set" if slot == "rule" else "remembers_samples"
    return bool(declared(part, keeps, False))


def _remembered(chosen: Chosen, slot: str) -> str | None:
    clash = changes_samples(chosen) and _remember(chosen, slot)
    return chosen.named("augment", slot) if clash else None


def _same_samples() -> Iterator[Clash]:
    """Yield a row for each slot whose part may need the same samples in every round."""
    for slot, who, instead in (
        ("cache", "A cache keeps the targets", "cache=none"),
        (
            "codec",
            "The codec sends what has changed in the answers",
            "codec=none",
        ),
        ("exchange", "The exchange keeps what was said", "exchange=predictions"),
        ("uptake", "The uptake remembers what was said", "uptake=none"),
        ("rule", "The rule remembers what was said a round ago", "rule=mean_probs"),
        ("request", "The request remembers what was learned", "request=none"),
        ("answer", "The answer remembers what was taught", "answer=none"),
        ("wish", "The wish remembers what was taught", "wish=none"),
    ):
        yield Clash(
            f"{who} of public samples, and the augmentation makes new ones of them in every round",
            partial(_remembered, slot=slot),
            f"Set augment=none, or {instead}.",
        )


def _moved(chosen: Chosen) -> str | None:
    told = chosen.cfg.server.persuasion and changes_samples(chosen)
    return chosen.named("augment") + ", server.persuasion=true" if told else None


def _mixes(chosen: Chosen) -> bool:
    return not declared(chosen.part("augment"), "labels_kept", True)


def _folded(chosen: Chosen) -> str | None:
    fold = getattr(chosen.part("guard"), "public_fold", 0.0)
    mixes = fold and _mixes(chosen)
    return f"{chosen.named('augment')}, guard.public_fold={fold}" if mixes else None


def _labels_lost(chosen: Chosen, slot: str) -> str | None:
    lost = chosen.fuses and _mixes(chosen) and needs_labels(chosen, slot)
    return chosen.named("augment", slot) if lost else None


def _nobody_chooses(chosen: Chosen) -> str | None:
    alone = chosen.needs("augment", "needs_student") and chosen.cfg.student._target_ is None
    return chosen.named("augment", "student") if alone else None


def _no_images(chosen: Chosen) -> str | None:
    data = chosen.data
    if data is None or not chosen.needs("augment", "needs_images") or len(data.input_shape) == 3:
        return None
    return f"inputs of shape {list(data.input_shape)}"


OF_AUGMENTS = (
    Clash(
        "The augmentation is chosen with a model of the server's own, and it has none",
        _nobody_chooses,
        "Set student=lenet5 or another model, or augment=none.",
    ),
    Clash(
        "The augmentation turns and moves images",
        _no_images,
        "Set augment=none or augment=mix_distribution, or choose a data set of images.",
        lambda _: "images [channels, height, width]",
        from_data=True,
    ),
    *_same_samples(),
    *(
        Clash(
            f"The {slot} needs labels of the public samples, and the augmentation leaves none",
            partial(_labels_lost, slot=slot),
            f"Set augment=none, or {instead}.",
        )
        for slot, instead in (
            ("scorer", "choose another scorer.epd, scorer.evidence or scorer"),
            ("rule", "set rule.by=max_prob, or choose another rule"),
            ("uptake", "set uptake.by=max_prob"),
            ("request", "set request=none"),
            ("distill", "choose distill=kl"),
        )
    ),
    Clash(
        "How far clients move is told from their predictions of the same samples in every round",
        _moved,
        "Set server.persuasion=false, or augment=none.",
    ),
    Clash(
        "The guard keeps public samples out of all lessons, and the augmentation mixes them in",
        _folded,
        "Set guard.public_fold=0, or augment=none.",
    ),
)
