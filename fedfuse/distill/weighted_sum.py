"""Several losses at once, each times its weight, named in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.distill.composite import Composite, require_shared
from fedfuse.errors import require
from fedfuse.prior import FLOOR
from fedfuse.shapes import Float
from fedfuse.train.facts import Facts, ask, wants
from fedfuse.types import Space
from fedfuse.validation import require_number

KEYS = {"loss", "weight"}


@dataclass(frozen=True, slots=True)
class WeightedSum(Composite):
    """The weighted sum of losses (as in torchdistill, arXiv 2011.12913).

    What its terms want to know, the sum wants; it relates samples, or is one client's, if a term
    does or is.

    Args:
        terms: By name: a ``loss`` and its ``weight`` from 0 (1 if it has none), one weight at least
            above 0. Targets are turned once, so all losses have one space and, on probabilities,
            one temperature.
    """

    terms: Mapping[str, Mapping[str, Any]] = field(hash=False)

    def __post_init__(self) -> None:
        ok = isinstance(self.terms, Mapping) and len(self.terms) > 0
        require(ok, "WeightedSum", "terms", self.terms, "losses by name, one or more")
        for name, term in self.terms.items():
            ok = isinstance(term, Mapping) and "loss" in term and set(term) <= KEYS
            ok = ok and callable(term["loss"])
            require(ok, "WeightedSum", f"terms.{name}", term, "a loss, and a weight or none")
            require_number("WeightedSum", f"terms.{name}.weight", _weight(term), at_least=0)
            require_shared("WeightedSum", f"terms.{name}", term["loss"])
        above = any(_weight(term) > 0 for term in self.terms.values())
        weights = [_weight(term) for term in self.terms.values()]
        require(above, "WeightedSum", "terms", f"weights {weights}", "one weight above 0 at least")
        self._alike("space", Space.PROBABILITIES)
        if self.space is Space.PROBABILITIES:
            self._alike("temperature", 1.0)
        self._alike("floor", FLOOR, lambda loss: "prior" in wants(loss))

    @property
    def _losses(self) -> list[Any]:
        return [term["loss"] for term in self.terms.values()]

    def _alike(
        self, what: str, default: Any, asked: Callable[[Any], bool] = lambda _: True
    ) -> None:
        """Raise if the terms of which it is asked do not have one of something."""
        terms = self.terms.items()
        found = {name: declared(t["loss"], what, default) for name, t in terms if asked(t["loss"])}
        said = ", ".join(f"{name}: {value}" for name, value in found.items())
        one = len(set(found.values())) <= 1
        require(
            one, "WeightedSum", "terms", said, f"losses of one {what}, as targets are made once"
        )

    @property
    def pseudo_labels(self) -> bool:
        """Whether all terms that want labels take the target's likeliest class for them."""
        asking = [loss for loss in self._losses if "labels" in wants(loss)]
        return all(declared(loss, "pseudo_labels", False) for loss in asking)

    def __call__(
        self,
        student_logits: Float[Tensor, "B C"],
        targets: Float[Tensor, "B C"],
        facts: Facts | None = None,
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        known = Facts() if facts is None else facts
        first, *others = (
            _weight(term) * ask(term["loss"], student_logits, targets, known)
            for term in self.terms.values()
        )
        total: Tensor = sum(others, start=first)
        return total


def _weight(term: Mapping[str, Any]) -> Any:
    return term.get("weight", 1.0)
