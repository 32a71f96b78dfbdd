"""A guard within the training: undo a distillation that cost validation answers."""

from __future__ import annotations

from dataclasses import dataclass

from fedfuse.validation import require_count

FEWEST = 4
"""Validation samples below which a client keeps everything: were it a toss-up whether an answer
turns wrong or right, all of three would turn wrong in one case of eight."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Undo a distillation after which a client is right on fewer of its validation samples.

    Equal accuracy keeps what was learned: a teacher knows classes that the client's own
    validation data hardly holds, and nothing speaks against it.

    What it cannot do. The decision is as noisy as the validation data are few: on n samples an
    accuracy p has a standard error of sqrt(p (1 - p) / n), and a harm smaller than that passes or
    is imagined. It looks at the client's own distribution only, so it may refuse what would have
    helped on classes that the client rarely sees. And validation accuracy is biased upwards by
    the choice. It promises no error rate: :class:`fedfuse.guard.Sequential` does.

    Args:
        fewest: Validation samples below which a client keeps everything.
    """

    fewest: int = FEWEST

    def __post_init__(self) -> None:
        require_count("Validation", "fewest", self.fewest)

    def refuses(self, now: float | None, then: float | None, samples: int) -> bool:
        """Tell whether what was learned is undone.

        Args:
            now: Validation accuracy after it; None for a client without such data.
            then: The same before it.
            samples: Validation samples behind both.
        """
        if now is None or then is None:
            return False
        return now < then and samples >= self.fewest
