"""What advice says about itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from experiments.advise.format import worth
from fedfuse.compare import ADJUSTED, LOCAL

ADVISOR: Any = SimpleNamespace(
    fitted={"runs": 2, "federations": 1, "datasets": ["d"], "methods": ["knfu"], "num_rounds": [5]},
    evaluated=[],
)


def told(*controls: str) -> str:
    run: Any = SimpleNamespace(fingerprint="f", controls=dict.fromkeys(controls))
    probe: Any = SimpleNamespace(method="knfu")
    return " ".join(worth(run, probe, ADVISOR))


def test_advice_on_a_method_with_priors_says_which_gain_it_is_about() -> None:
    assert "The advice is on plain local training." in told(LOCAL, ADJUSTED)
    assert "prior-corrected local training has too" in told(LOCAL, ADJUSTED)
    assert "prior" not in told(LOCAL)
