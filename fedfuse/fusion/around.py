"""How a rule or a scorer is asked: of which round it is, and whether it reads the public labels.

The pipeline asks this way, and so does a rule around another one (:class:`AroundRule`), whose inner
rule may be the one that has asked for it.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

from fedfuse.declarations import declared, part_name
from fedfuse.errors import KnowledgeError, require
from fedfuse.fusion.returned import checked_labels
from fedfuse.protocols import DrawsAnew, Fused, Rule, Stateful
from fedfuse.types import KnowledgeBank

P = TypeVar("P")


def of_round(part: P, round: int) -> P:  # noqa: A002
    """Return the part that a round works with: itself, unless it is another one in every round.

    Raises:
        KnowledgeError: If ``at_round`` returned nothing that can be called.

    >>> from fedfuse.fusion.controls import Random
    >>> of_round(Random(), 1) == of_round(Random(), 2)
    False
    """
    if not isinstance(part, DrawsAnew):
        return part
    made: P = part.at_round(round)
    if not callable(made):
        what = f"at_round of {part_name(part)} did not return the part of a round"
        raise KnowledgeError(what, got=type(made).__name__, allowed="what can be called like it")
    return made


def fused_by(rule: Any, bank: KnowledgeBank, weights: Any, labels: Any = None) -> Fused:
    """Return what a rule fuses, with the public labels as third argument if it needs them.

    Args:
        rule: The rule of the round.
        bank: What the clients sent.
        weights: Row-stochastic [K, K], or by class.
        labels: Public labels [P], if anybody knows them.

    Raises:
        KnowledgeError: If it needs labels and there are none, or others than the bank's.
    """
    if declared(rule, "needs_labels", False):
        made = rule(bank, weights, checked_labels(bank, labels, f"rule {part_name(rule)}"))
    else:
        made = rule(bank, weights)
    return made if isinstance(made, Fused) else Fused(made)


def at_temperature(rule: Any, temperature: float) -> Any:
    """Return the rule at another temperature, if it is one that has any, with all it remembers.

    >>> from fedfuse.fusion.rules import MeanLogits, MeanProbabilities
    >>> at_temperature(MeanProbabilities(4.0), 1.0), at_temperature(MeanLogits(), 1.0)
    (MeanProbabilities(temperature=1.0), MeanLogits())
    """
    if isinstance(rule, partial):
        other = rule.keywords.get("temperature", temperature) != temperature
        return partial(rule, temperature=temperature) if other else rule
    if not is_dataclass(rule) or getattr(rule, "temperature", temperature) == temperature:
        return rule
    tempered: Any = replace(rule, temperature=temperature)  # type: ignore[type-var]
    if isinstance(rule, Stateful):
        tempered.restore(rule.state())
    return tempered


def inner_fused(
    rule: Any, temperature: float, bank: KnowledgeBank, weights: Any, labels: Any = None
) -> Fused:
    """Return what an inner rule fuses, at the temperature of the rule around it if it has any.

    Args:
        rule: The inner rule.
        temperature: Of the rule around it.
        bank: What the clients sent.
        weights: Row-stochastic [K, K], or by class.
        labels: What the rule around it was given as third argument.
    """
    tempered = at_temperature(rule, temperature)
    made = fused_by(tempered, bank, weights, labels)
    if tempered is not rule and isinstance(rule, Stateful):
        rule.restore(tempered.state())
    return made


def require_inner(owner: str, inner: object) -> None:
    """Raise unless ``inner`` can be called."""
    require(callable(inner), owner, "inner", inner, "a rule")


def _of_inner(name: str) -> Any:
    """Return a property that is whatever the inner rule declares."""
    return property(
        lambda rule: declared(rule.inner, name, False), doc=f"The inner rule's ``{name}``."
    )


class AroundRule:
    """What a rule around another one takes over from it: what it needs and can use.

    A subclass is a frozen dataclass with a field ``inner``, called with the labels as third
    argument where there are any: ``__call__(bank, weights, labels=None)`` hands them on by
    :func:`inner_fused`.
    """

    __slots__ = ()
    inner: Rule

    needs_labels = _of_inner("needs_labels")
    needs_confidence = _of_inner("needs_confidence")
    needs_positive_confidence = _of_inner("needs_positive_confidence")
    needs_class_distribution = _of_inner("needs_class_distribution")
    needs_fixed_public_set = _of_inner("needs_fixed_public_set")
    needs_few_clients = _of_inner("needs_few_clients")
    by_class = _of_inner("by_class")

    def at_round(self, round: int) -> Any:  # noqa: A002
        """Return the rule of this round: around the inner rule of this round."""
        inner = of_round(self.inner, round)
        return self if inner is self.inner else replace(self, inner=inner)  # type: ignore[type-var]

    def check_bank(self, bank: KnowledgeBank) -> None:
        """Refuse what the inner rule cannot take."""
        if (check := declared(self.inner, "check_bank", None)) is not None:
            check(bank)
