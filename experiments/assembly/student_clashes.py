"""What goes with a model of the server's own."""

from __future__ import annotations

from functools import partial

from experiments.assembly.augment_clashes import changes_samples
from experiments.assembly.chosen import Chosen, Clash, not_fused
from experiments.assembly.public_label_clashes import strange_classes
from fedfuse.declarations import declared
from fedfuse.types import Space

SELECTS = "server.student_selects=true"


def _selects(chosen: Chosen) -> bool:
    return bool(chosen.cfg.server.student_selects)


def _nobody(chosen: Chosen) -> str | None:
    nobody = _selects(chosen) and chosen.cfg.student._target_ is None
    return f"{SELECTS}, {chosen.named('student')}" if nobody else None


def _not_probabilities(chosen: Chosen) -> str | None:
    logits = _selects(chosen) and chosen.space("distill") is Space.LOGITS
    return f"{SELECTS}, {chosen.named('distill')}" if logits else None


def _other_samples(chosen: Chosen) -> str | None:
    kept = declared(chosen.part("augment"), "labels_kept", True)
    others = _selects(chosen) and (changes_samples(chosen) or not kept)
    return f"{SELECTS}, {chosen.named('augment')}" if others else None


def _untold(chosen: Chosen) -> str | None:
    if not _selects(chosen):
        return None
    public = chosen.data.public  # type: ignore[union-attr]
    return f"public set: {public.source}" if public.labels is None else strange_classes(chosen)


OF_STUDENTS = (
    Clash(
        "A model on the server learns from fused predictions, and this method has none",
        partial(not_fused, slot="student"),
        "Set student=none, or choose a method that fuses predictions.",
    ),
    Clash(
        "The server selects what its own model learns of each public sample, and has no model",
        _nobody,
        "Set server.student_selects=false, or student=mlp.",
    ),
    Clash(
        "The server's own model learns a label in the place of a teacher's probabilities, and the "
        "loss compares logits",
        _not_probabilities,
        "Set server.student_selects=false, or distill=kl.",
    ),
    Clash(
        "The server's own model remembers what it said of labelled public samples, and the "
        "augmentation makes others of them",
        _other_samples,
        "Set augment=none, or server.student_selects=false.",
    ),
    Clash(
        "The server selects by public labels what its own model learns, and has none for it",
        _untold,
        "Set server.student_selects=false, or public=held_out.",
        from_data=True,
    ),
)
