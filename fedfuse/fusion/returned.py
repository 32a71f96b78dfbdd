"""What parts return, held to what they promise before anything is made of it."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.errors import ConfigError, KnowledgeError
from fedfuse.payload.fields import SIMPLEX_TOLERANCE
from fedfuse.protocols import ClassScores, Neighbours, Sharpen
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space

NO_CLASS_WEIGHTS = (
    "The scorer weighs every class by itself, and the rule has one weight for all of a prediction"
)
USE_CLASS_WEIGHTS = (
    "Choose rule=mean_probs, geometric_mean or mean_logits, or a scorer without class weights."
)


def versions_of(*given: object) -> list[int]:
    """Return autograd's counts of changes in place of all tensors that parts are given."""
    found = []
    for value in given:
        if isinstance(value, Tensor):
            found.append(0 if value.is_inference() else value._version)
        elif is_dataclass(value):
            found += versions_of(*(getattr(value, field.name) for field in fields(value)))
    return found


def check_unchanged(what: str, before: list[int], *given: object) -> None:
    """Raise KnowledgeError if a part wrote into what it was given, which others read after it."""
    if versions_of(*given) != before:
        raise KnowledgeError(
            f"The {what} changed the predictions, scores or weights that it was given",
            allowed="a copy",
        )


def scores_of(scorer: object, scores: object, bank: KnowledgeBank) -> Tensor | ClassScores:
    """Return what a scorer returned if it is scores.

    Raises:
        KnowledgeError: If it is something else, or holds NaN or +inf.
    """
    name = part_name(scorer)
    what, allowed = f"The scorer {name} did not return scores", "finite scores or -inf"
    pairs, num_classes = (bank.num_clients,) * 2, bank.num_classes
    by_class = isinstance(scores, ClassScores) or (isinstance(scores, Tensor) and scores.ndim == 3)
    if by_class and not declared(scorer, "by_class", False):
        raise KnowledgeError(
            f"The scorer {name} scores every class by itself and does not say so",
            next_step="Declare by_class = True: a class attribute, or one of a function.",
        )
    if isinstance(scores, ClassScores):
        parts = [
            tensor_of(scores.pair, f"{what} of pairs", pairs),
            tensor_of(scores.source, f"{what} by class", (bank.num_clients, num_classes)),
        ]
    else:
        shape = (*pairs, num_classes) if by_class else pairs
        parts = [tensor_of(scores, what, shape)]
    for part in parts:
        # NaN wherever any number is, and no copy of the whole.
        if not float(part.amax()) < torch.inf:
            wrong = ~(part < torch.inf)
            where = ""
            if by_class and part.shape[-1] == num_classes and part is parts[-1]:
                classes = wrong.flatten(0, -2).any(dim=0).nonzero().flatten().tolist()
                where = f" for the classes {classes[:5]}"
            raise KnowledgeError(what, got=f"NaN or +inf{where}", allowed=allowed)
    assert isinstance(scores, Tensor | ClassScores)
    return scores


def refuse_class_weights(scorer: object, rule: object) -> None:
    """Raise if a scorer weighs by class and a rule cannot use such weights.

    Raises:
        ConfigError: Naming both.
    """
    if declared(scorer, "by_class", False) and not declared(rule, "by_class", False):
        raise ConfigError(
            NO_CLASS_WEIGHTS,
            got=f"{part_name(scorer)} with {part_name(rule)}",
            next_step=USE_CLASS_WEIGHTS,
        )


def check_targets(rule: object, targets: Tensor) -> None:
    """Raise unless all targets are finite, and probabilities where the rule's space is theirs.

    Raises:
        KnowledgeError: Naming the rule.
    """
    # The extremes take one pass and no copy; they are NaN where any number is.
    low, high = map(float, torch.aminmax(targets))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise KnowledgeError(
            f"The rule {part_name(rule)} did not return targets",
            got="NaN or infinite values",
            allowed="finite values",
        )
    probabilities = declared(rule, "space", Space.PROBABILITIES) == Space.PROBABILITIES
    if probabilities and not (low >= -SIMPLEX_TOLERANCE and high <= 1 + SIMPLEX_TOLERANCE):
        raise KnowledgeError(
            f"The rule {part_name(rule)} did not return probabilities",
            got=f"values from {low:g} to {high:g}",
            allowed="values from 0 to 1 that sum to 1 over the classes",
            next_step="If they are logits, say so: declare space = Space.LOGITS "
            "(fedfuse.types.Space), a class attribute or one of a function.",
        )


def choice_of(neighbours: Neighbours, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
    """Return whom a part chooses by the scores.

    Raises:
        KnowledgeError: If it is no choice, or nobody for somebody.
    """
    before = versions_of(scores)
    near = neighbours(scores)
    check_unchanged(f"neighbours {part_name(neighbours)}", before, scores)
    what = f"The neighbours {part_name(neighbours)} did not return a choice"
    tensor_of(near, what, tuple(scores.shape), floating=False)
    alone = (~near.any(dim=1)).nonzero().flatten().tolist()
    if alone:
        raise KnowledgeError(
            what,
            got=f"no source at all for the clients at {alone[:5]}",
            allowed="at least one True in every row",
            next_step="Let a client without neighbours keep itself.",
        )
    return near


def sharpened(sharpen: Sharpen, probs: Float[Tensor, "K P C"]) -> Float[Tensor, "K P C"]:
    """Return what a sharpening makes of probabilities.

    Raises:
        KnowledgeError: If it is none.
    """
    sharp = sharpen(probs)
    what = f"The sharpening {part_name(sharpen)} did not return probabilities"
    tensor_of(sharp, what, tuple(probs.shape))
    off = float((sharp.sum(dim=-1) - 1).abs().max())
    if not (off < SIMPLEX_TOLERANCE and bool((sharp >= 0).all())):
        raise KnowledgeError(
            what,
            got=f"a smallest value of {float(sharp.min()):g} and a sum {off:g} away from 1",
            allowed="values from 0 that sum to 1 over the classes",
        )
    return sharp


def checked_labels(
    bank: KnowledgeBank, labels: Int[Tensor, " P"] | None, reader: str
) -> Int[Tensor, " P"]:
    """Return the public labels on the bank's device, for ``reader``: a slot and its part's name.

    Raises:
        KnowledgeError: If there are none, or others than the bank's.
    """
    if labels is None:
        raise KnowledgeError(
            f"The {reader} needs the labels of the public set, which has none",
            next_step=f"Choose a public set with labels or another {reader.partition(' ')[0]}.",
        )
    num_samples = bank.logits.shape[1]
    if len(labels) != num_samples or bool(((labels < 0) | (labels >= bank.num_classes)).any()):
        raise KnowledgeError(
            "The labels of the public set do not fit the clients' predictions",
            got=f"{len(labels)} labels from {int(labels.min())} to {int(labels.max())}",
            allowed=f"{num_samples} labels from 0 to {bank.num_classes - 1}",
        )
    return labels.to(bank.logits.device)


def tensor_of(value: object, what: str, shape: tuple[int, ...], *, floating: bool = True) -> Tensor:
    """Return the value if it is a tensor of the shape, of floats or of bools.

    Raises:
        KnowledgeError: Saying ``what`` is wrong, and how.
    """
    if (
        isinstance(value, Tensor)
        and tuple(value.shape) == shape
        and (value.is_floating_point() if floating else value.dtype == torch.bool)
    ):
        return value
    got = f"a {type(value).__name__}"
    if isinstance(value, Tensor):
        got = f"{list(value.shape)} of {value.dtype}"
    kind = "float" if floating else "bool"
    raise KnowledgeError(what, got=got, allowed=f"a {kind} tensor of shape {list(shape)}")
