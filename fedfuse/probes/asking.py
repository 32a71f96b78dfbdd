"""Ask a model a list of probes, and see that what they say can be used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fedfuse.declarations import part_name
from fedfuse.metrics import accuracy
from fedfuse.probes.protocol import Asked, Probe
from fedfuse.rng import Streams
from fedfuse.user_code import PartError, kind_of

CLEAN = "accuracy_clean"
"""Metric: the accuracy on the samples of the probes as they are."""

MOST = 200
"""Metrics that all probes together may tell of a model; servers believe no more."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked of every model.

    Args:
        each: The probes.
        streams: The run's random streams.
    """

    each: Sequence[Probe]
    streams: Streams

    def __call__(
        self, model: Asked, inputs: Tensor, labels: Tensor, round_: int
    ) -> dict[str, float]:
        """Return what all probes found, and the accuracy on the samples as they are.

        Args:
            model: Whom to ask.
            inputs: Samples before normalising [n, ...].
            labels: Theirs [n].
            round_: The round; random numbers are the same for all who are asked in it.

        Raises:
            PartError: If a probe says something that is no metric, or what another one says.
        """
        found = {CLEAN: accuracy(model.predict(inputs), labels)}
        for number, probe in enumerate(self.each):
            generator = self.streams.torch("probe", number, round_)
            for name, value in told(probe(model, inputs, labels, generator), probe).items():
                if name in found:
                    raise _refused(probe, f"'{name}', which is told already", "names of its own")
                found[name] = value
            if len(found) > MOST:
                raise _refused(probe, f"{len(found)} metrics in all", f"at most {MOST}")
        return found


def told(answer: object, probe: Probe) -> dict[str, float]:
    """Return a probe's answer, if it is metrics by name.

    Raises:
        PartError: If it is something else.
    """
    if not isinstance(answer, Mapping):
        raise _refused(probe, kind_of(answer))
    found = {}
    for name, value in answer.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (isinstance(name, str) and name.isidentifier()) or not number:
            raise _refused(probe, f"{name!r}: {kind_of(value)}")
        if math.isinf(value):
            raise _refused(probe, f"{name}: {value}")
        found[name] = float(value)
    return found


def alike(probes: Sequence[Probe]) -> str | None:
    """Return a name that several probes give their metrics; None if there is none.

    A probe without a ``name`` is known by its own.
    """
    names = Counter(str(getattr(probe, "name", part_name(probe))) for probe in probes)
    return next((name for name, count in names.items() if count > 1), None)


def _refused(probe: Probe, got: str, allowed: str | None = None) -> PartError:
    return PartError(
        f"The probe {part_name(probe)} does not say what it found",
        got=got,
        allowed=allowed or "finite numbers (or NaN) by name, names of letters, digits and _",
    )
