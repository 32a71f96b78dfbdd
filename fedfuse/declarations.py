"""What a plugged-in part says about itself, whether it is a class, a function or a partial of one.

The configuration binds a function to its options with ``functools.partial``, which hides the
function's own attributes and name; looking through it lets ``my_rule.space = Space.LOGITS`` work.
What a part needs of others is asked before anything is trained
(``experiments/assembly/capabilities.py``); :data:`DECLARATIONS` lists all that may be declared.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from fedfuse.errors import did_you_mean

T = TypeVar("T")


class Declaration(NamedTuple):
    """An attribute by which a part says something about itself.

    Args:
        means: What it says, in words.
        slots: The slots whose parts may declare it.
        values: What it may be.
        default: What is taken of a part that does not declare it.
    """

    means: str
    slots: tuple[str, ...]
    values: tuple[object, ...] = (True, False)
    default: object = False


FEW_CLIENTS = 32
"""How many clients a part that needs few of them has time for."""
_SPACES = ("logits", "probabilities")

DECLARATIONS: Mapping[str, Declaration] = {
    "needs_labels": Declaration(
        "labels of the public set",
        ("scorer", "rule", "select", "exchange", "pretrain", "uptake", "request"),
    ),
    "needs_class_distribution": Declaration("label histograms of the clients", ("scorer", "rule")),
    "needs_confidence": Declaration("a confidence with every answer", ("rule",)),
    "needs_positive_confidence": Declaration("a confidence from 0 up", ("rule",)),
    "needs_validation": Declaration("samples that clients hold back", ("distill",)),
    "needs_fixed_public_set": Declaration("the same samples in every round", ("codec", "rule")),
    "needs_scores": Declaration("what clients make of each other", ("scorer",)),
    "needs_efficiency": Declaration("how fast clients lower their private loss", ("scorer",)),
    "needs_few_clients": Declaration(f"at most {FEW_CLIENTS} clients", ("rule",)),
    "needs_class_counts": Declaration("its client's samples of each class", ("privacy",)),
    "needs_all_private_data": Declaration("all private data in one place", ("exchange",)),
    "needs_sample_counts": Declaration("how many private samples clients have", ("exchange",)),
    "tells_label_counts": Declaration(
        "whether it tells how many samples of each class clients have", ("exchange",)
    ),
    "adds_up_changes": Declaration(
        "whether its clients add up what comes, so that none may miss any", ("exchange",)
    ),
    "needs_images": Declaration("images, not features", ("probe", "augment", "private_augment")),
    "needs_numbers": Declaration(
        "inputs to calculate with, not texts", ("augment", "uptake", "exchange", "probe")
    ),
    "gives": Declaration(
        "what is said of a sample",
        ("familiarity",),
        ("mask", "confidence", "log_density"),
        "confidence",
    ),
    "space": Declaration(
        "what it works on", ("extract", "rule", "distill"), _SPACES, "probabilities"
    ),
    "of": Declaration("what it looks at", ("familiarity",), ("inputs", "features"), "inputs"),
    "batchable": Declaration("whether many clients may train at once", ("exchange", "distill")),
    "relational": Declaration("whether it relates the samples of a batch", ("exchange", "distill")),
    "pseudo_labels": Declaration(
        "whether the target's likeliest class serves where nobody knows the label",
        ("distill", "request"),
    ),
    "least_where_agreeing": Declaration(
        "whether a student that agrees with its teacher loses least", ("distill",), default=True
    ),
    "takes_local_loss": Declaration(
        "whether its clients learn with the slot local_loss", ("exchange",), default=True
    ),
    "tests_logits": Declaration(
        "whether the models that are tested answer with logits", ("exchange",), default=True
    ),
    "last_suffices": Declaration(
        "whether who rests may get the last download alone, when it is needed", ("exchange",)
    ),
    "remembers_samples": Declaration(
        "what it remembers of single public samples", ("uptake", "request", "answer", "wish")
    ),
    "sets_clock": Declaration("whether it says how far each client is", ("uptake",)),
    "all_train_alone": Declaration(
        "whether everybody trains where clients learn alone", ("participation",)
    ),
    "needs_base": Declaration("a common start of all models", ("merge",)),
    "needs_predictions": Declaration("the models' predictions of public samples", ("merge",)),
    "personal": Declaration("whether each client gets a model of its own", ("merge",)),
    "by_weights": Declaration("whether models count by their weights", ("merge",), default=True),
    "labels_kept": Declaration(
        "whether labels hold of what it makes of samples", ("augment",), default=True
    ),
    "needs_student": Declaration("a model of the server's own", ("augment",)),
    "lesson_only": Declaration("whether answers are of samples as they were", ("augment",)),
    "by_class": Declaration("whether weights may differ by class", ("scorer", "rule")),
    "learned": Declaration("whether scores are learned from the round's knowledge", ("scorer",)),
    "deals_rows": Declaration("whether it deals rows of the training file", ("partitioner",)),
}
"""All that a part may declare: a class attribute, a property or an attribute of a function."""


def declared(part: object, name: str, default: T) -> T:
    """Return the attribute ``name`` of the part, or ``default`` if it declares none.

    >>> def scorer(bank, labels): ...
    >>> scorer.needs_labels = True
    >>> declared(functools.partial(scorer), "needs_labels", False)
    True
    """
    while isinstance(part, functools.partial) and not hasattr(part, name):
        part = part.func
    value: T = getattr(part, name, default)
    return value


def wrong_declaration(part: object, slot: str) -> str | None:
    """Return in words what of a part's declarations nobody would understand; None if nothing.

    Args:
        part: The part.
        slot: The slot that it is for.

    >>> def scorer(bank, labels): ...
    >>> scorer.needs_labels = "yes"
    >>> wrong_declaration(scorer, "scorer")
    "declares needs_labels='yes'; allowed: True or False"
    >>> scorer.needs_lables = True
    >>> wrong_declaration(scorer, "scorer")
    "declares 'needs_lables', which nothing reads; did you mean 'needs_labels'?"
    """
    own = [name for name, known in DECLARATIONS.items() if slot in known.slots]
    while isinstance(part, functools.partial):
        part = part.func
    for name in sorted(name for name in dir(part) if name.startswith("needs_")):
        if name not in own and (near := did_you_mean(name, own)):
            return f"declares '{name}', which nothing reads; did you mean '{near}'?"
    for name in own:
        known = DECLARATIONS[name]
        value = declared(part, name, known.default)
        if value not in known.values or type(value) is int:
            return f"declares {name}={value!r}; allowed: {' or '.join(map(str, known.values))}"
    return None


def part_name(part: object) -> str:
    """Return the part's name as its author knows it.

    >>> part_name(functools.partial(max, 3)), part_name(object())
    ('max', 'object')
    """
    while isinstance(part, functools.partial):
        part = part.func
    return str(getattr(part, "__name__", type(part).__name__))
