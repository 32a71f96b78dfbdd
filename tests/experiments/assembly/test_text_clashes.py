"""What does not go with texts is refused by one message before anything is trained."""

from __future__ import annotations

import pytest

from experiments.assembly import capabilities
from experiments.assembly.parts import build_parts
from experiments.config import compose
from fedfuse.errors import ConfigError

SMALL = ["dataset.words=8", "public.size=40", "num_clients=2", "model.width=4", "model.buckets=20"]
TEXT = ["dataset=docstrings", *SMALL]


def refusal(*lines: str) -> str:
    parts = build_parts(compose.configure(list(lines)))
    try:
        capabilities.check(parts.cfg, parts.data, parts.models, parts.pipeline)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        (["model=lenet5"], "model=ngrams"),
        (["model=mlp"], "model=ngrams"),
        (["model=cycle"], "model=ngrams"),
        (["student=mlp"], "student=ngrams"),
        (["augment=mix_distribution"], "augment=none"),
        (["augment=hard_augment", "student=ngrams"], "augment=none"),
        (["uptake=homeostatic"], "uptake=none"),
        (["probe=[fgsm]"], "evaluation.probes"),
        (["probe=[blur]"], "evaluation.probes"),
        (["probe=[by_distance]"], "evaluation.probes"),
        (["familiarity=kulsif"], "familiarity.of=features"),
        (["method=edgefd"], "familiarity.of=features"),
        (["method=kafal", "exchange.kept_teacher.mixing=2"], "kept_teacher.mixing=0"),
    ],
)
def test_what_calculates_with_inputs_is_refused_with_texts(lines: list[str], step: str) -> None:
    of_images = lines[0].startswith("model=")
    told = refusal(*(["dataset=docstrings"] if of_images else TEXT), *lines)
    assert step in told, told


def test_the_other_way_round() -> None:
    for model in ("ngrams", "text_tiers"):
        told = refusal("dataset=synthetic", "dataset.kind=features", f"model={model}")
        assert "A model is for texts" in told
        assert "model=mlp" in told


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["student=ngrams", "student.width=4"],
        ["familiarity=kulsif", "familiarity.of=features"],
        ["uptake=own_or_teacher"],
        ["public=noise", "public.size=40"],
    ],
)
def test_what_goes_with_texts_is_not_refused(lines: list[str]) -> None:
    assert (
        refusal(*(line for line in TEXT if not line.startswith("public") or not lines), *lines)
        == ""
    )


def test_models_of_ones_own_may_be_for_texts() -> None:
    assert refusal("dataset=docstrings", "public.size=40", "model._target_=torch.nn.Linear",
                   "model.in_features=64", "model.out_features=10") == ""  # fmt: skip
