"""``pytest -m cuda``: whether the numbers are right on the device, test by test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import torch

from experiments.benchmarks.rows import Row, row

ROOT = Path(__file__).parents[3]
TESTS = "tests/cuda"


def measure(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:  # noqa: ARG001
    """Yield how many tests passed, and one row for each that did not; if tiny, a case of each."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        # The other tests' conftest needs more than torch, numpy and pytest.
        command = [
            sys.executable, "-m", "pytest", "-q", "-m", "cuda", TESTS, f"--confcutdir={TESTS}",
            "-p", "no:cacheprovider", "--durations=10",
        ]  # fmt: skip
        done = subprocess.run(  # noqa: S603 - our own tests
            [*command, f"--junitxml={report}"],
            cwd=ROOT,
            env={
                **os.environ,
                "FEDFUSE_TEST_DEVICE": str(device),
                **({"FEDFUSE_TEST_CASES": "1"} if tiny else {}),
            },
            check=False,
        )
        if not report.exists():
            note = f"pytest ended with code {done.returncode} and wrote no report"
            yield row("gpu", "tests_passed", "tests on the device passed", None, "", note=note)
            return
        cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - pytest wrote it
    failed = [case for case in cases if _outcome(case, "failure", "error") is not None]
    skipped = [case for case in cases if _outcome(case, "skipped") is not None]
    passed = len(cases) - len(failed) - len(skipped)
    note = f"of {len(cases)} on {device}; {len(skipped)} skipped"
    share = passed / max(1, len(cases) - len(skipped))
    what = "tests on the device, share that passed"
    yield row("gpu", "tests_passed", what, share, "", bar=1.0, higher=True, note=note)
    for case in failed:
        found = _outcome(case, "failure", "error")
        said = " ".join(str(found.get("message") if found is not None else "").split())[:300]
        name = str(case.get("name"))
        yield row("gpu", f"failed_{name}", f"  failed: {name}", None, "", note=said)


def _outcome(case: ET.Element, *kinds: str) -> ET.Element | None:
    return next((child for child in case if child.tag in kinds), None)
