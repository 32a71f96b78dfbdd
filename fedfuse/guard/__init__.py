"""What a client deploys: its own model, the fused one or their mixture; and who says so."""

from fedfuse.guard.ensemble import Ensemble
from fedfuse.guard.mixture import mixed, shares
from fedfuse.guard.protocol import Choice, Guard, Paired
from fedfuse.guard.sequential import Sequential
from fedfuse.guard.validation import Validation

__all__ = [
    "Choice",
    "Ensemble",
    "Guard",
    "Paired",
    "Sequential",
    "Validation",
    "mixed",
    "shares",
]
