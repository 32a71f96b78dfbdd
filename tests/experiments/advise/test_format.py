"""What advice says about itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from experiments.advise.format import limits
from fedfuse.compare import ADJUSTED, LOCAL

ADVISOR: Any = SimpleNamespace(
    fitted={"runs": 2, "federations": 1, "datasets": ["d"], "methods": ["knfu"], "num_rounds": [5]},
    evaluated=[],
)


def told(*controls: str, num_rounds: int = 5) -> str:
    config = {"num_rounds": num_rounds}
    run: Any = SimpleNamespace(fingerprint="f", controls=dict.fromkeys(controls), config=config)
    probe: Any = SimpleNamespace(method="knfu", rounds=2)
    return " ".join(limits(run, probe, ADVISOR))


def test_advice_on_a_method_with_priors_says_which_gain_it_is_about() -> None:
    assert "The advice is on plain local training." in told(LOCAL, ADJUSTED)
    assert "prior-corrected local training has too" in told(LOCAL, ADJUSTED)
    assert "prior" not in told(LOCAL)


def test_a_run_of_another_length_is_told_that_the_forecast_is_not_of_its_end() -> None:
    assert "This run has 3 rounds" in told(num_rounds=3)
    assert "This run has" not in told(num_rounds=5)
    assert "This run has" not in told(num_rounds=2)  # a probe alone has no other end
