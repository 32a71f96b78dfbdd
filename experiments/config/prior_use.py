"""Whether a run uses the clients' label priors, and which arms stand beside its method then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedfuse.compare.controls import CONTROLS, LOCAL

BASELINE = LOCAL
"""The arm every method is compared with: local training with cross-entropy."""

PLAIN_LOSS, BALANCED = "fedfuse.local_loss.CrossEntropy", "fedfuse.local_loss.BalancedSoftmax"
WITHOUT_PRIOR = (PLAIN_LOSS, "fedfuse.local_loss.SymmetricCrossEntropy")
ADJUSTING = "fedfuse.extract.Adjusted"


def uses_prior(cfg: Mapping[str, Any]) -> bool:
    """Tell whether a run's method uses its clients' label priors.

    A loss of one's own counts: nobody knows what it does.

    Args:
        cfg: Its configuration, of any version of fedfuse.
    """
    return bool(
        _at(cfg, "local_loss", "_target_", PLAIN_LOSS) not in WITHOUT_PRIOR
        or _at(cfg, "evaluation", "prior", "none") != "none"
        or _at(cfg, "extract", "_target_", "") == ADJUSTING
    )


def trains_otherwise(cfg: Mapping[str, Any]) -> bool:
    """Tell whether a method's clients would differ from the baseline's if they learned alone."""
    return uses_prior(cfg) or _at(cfg, "local_loss", "_target_", PLAIN_LOSS) != PLAIN_LOSS


def controls(cfg: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arms beside which a method is shown, as its configuration asks for them."""
    if cfg["baseline"] == "none":
        return ()
    return tuple(CONTROLS) if uses_prior(cfg) else (BASELINE,)


def _at(cfg: Mapping[str, Any], group: str, key: str, default: Any) -> Any:
    node = cfg.get(group)
    return default if node is None else node.get(key, default)
