"""What goes with texts, and what with texts alone: models, and parts that change inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from experiments.assembly.chosen import Chosen, Clash
from experiments.assembly.parts import build_probes
from experiments.config.targets import target_name as named_target
from fedfuse.declarations import declared, part_name
from fedfuse.models.factory import Adapted
from fedfuse.models.plan import as_plan

_SHIPPED = "fedfuse.models."


def architectures(plan: object) -> Mapping[str, object]:
    """Return what a plan of models builds, by name; nothing of one that keeps that to itself."""
    many = getattr(plan, "factories", None) or getattr(plan, "candidates", None)
    if isinstance(many, Mapping):
        return many
    factory = getattr(plan, "factory", None)
    return {} if factory is None else {str(getattr(plan, "architecture", "")): factory}


def _function(factory: object) -> Any:
    while isinstance(factory, partial | Adapted):
        factory = factory.target if isinstance(factory, Adapted) else factory.func
    return factory


def _misfits(chosen: Chosen, plan: object) -> str | None:
    """Return the first architecture that is for texts where there are none, or the other way round.

    An ``nn.Module`` of one's own that declares nothing may be for either.
    """
    assert chosen.data is not None
    for name, factory in architectures(plan).items():
        function = _function(factory)
        shipped = str(getattr(function, "__module__", "")).startswith(_SHIPPED)
        if not (shipped or hasattr(function, "needs_text")):
            continue
        if bool(getattr(function, "needs_text", False)) != chosen.data.is_text:
            return f"model '{name}' and the data set {chosen.data.name}"
    return None


def _wrong_models(chosen: Chosen, *, text: bool) -> str | None:
    if chosen.data is None or chosen.data.is_text != text:
        return None
    if chosen.models is not None and (found := _misfits(chosen, chosen.models)) is not None:
        return found
    student = chosen.part("student")
    found = None if student is None else _misfits(chosen, as_plan(student))
    return None if found is None else f"student={named_target(chosen.cfg.student)}: {found}"


def _words_changed(chosen: Chosen, slot: str) -> str | None:
    texts = chosen.data is not None and chosen.data.is_text
    return chosen.named(slot) if texts and chosen.needs(slot, "needs_numbers") else None


def _words_mixed(chosen: Chosen) -> str | None:
    texts = chosen.data is not None and chosen.data.is_text
    mixing = getattr(getattr(chosen.part("exchange"), "kept_teacher", None), "mixing", 0.0)
    return f"exchange.kept_teacher.mixing={mixing:g}" if texts and mixing else None


def _words_probed(chosen: Chosen) -> str | None:
    texts = chosen.data is not None and chosen.data.is_text
    probes = [p for p in build_probes(chosen.cfg) if texts and declared(p, "needs_numbers", False)]
    return part_name(probes[0]) if probes else None


def _words_compared(chosen: Chosen) -> str | None:
    texts = chosen.data is not None and chosen.data.is_text
    part = chosen.part("familiarity")
    by_inputs = part is not None and declared(part, "of", "") == "inputs"
    return f"{part_name(part)}, familiarity.of=inputs" if texts and by_inputs else None


def _of_slots() -> Iterator[Clash]:
    """Yield a row for each slot whose part may calculate with inputs."""
    for slot, does, instead in (
        ("augment", "The augmentation mixes or makes samples", "augment=none"),
        ("uptake", "The uptake adds noise to samples", "uptake=none or another uptake"),
        ("exchange", "The exchange makes samples", "exchange=predictions"),
    ):
        yield Clash(
            f"{does}, which takes pixels or numbers, and the samples are texts",
            partial(_words_changed, slot=slot),
            f"Set {instead}.",
            from_data=True,
        )


OF_TEXTS = (
    *_of_slots(),
    Clash(
        "The kept teacher mixes public samples, and they are texts",
        _words_mixed,
        "Set exchange.kept_teacher.mixing=0.",
        from_data=True,
    ),
    Clash(
        "A probe of evaluation.probes calculates with inputs, and the samples are texts",
        _words_probed,
        "Leave it out of evaluation.probes.",
        from_data=True,
    ),
    Clash(
        "Familiarity is a distance between inputs, and texts have none",
        _words_compared,
        "Set familiarity.of=features.",
        from_data=True,
    ),
    Clash(
        "The samples are texts, and a model is for pictures or numbers",
        partial(_wrong_models, text=True),
        "Set model=ngrams, model=text_transformer or model=text_tiers"
        " (student=ngrams for the server's own).",
        from_data=True,
    ),
    Clash(
        "A model is for texts, and the samples are none",
        partial(_wrong_models, text=False),
        "Choose another model, such as model=mlp, or a data set of texts: dataset=docstrings, "
        "dataset=text.",
        from_data=True,
    ),
)
