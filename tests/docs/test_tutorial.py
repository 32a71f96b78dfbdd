"""The tutorial, typed as it stands, in one folder and from top to bottom."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from experiments.config import compose
from tests import forked, thinning

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/tutorial.md").read_text("utf-8")
CODE = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
SESSIONS = re.findall(r"^```\n\$ (.*?)\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[+-]?\d+(?:[.:,]\d+)*")
"""Also times and sizes; they may differ, on another processor the accuracies do a little."""


def words(text: str) -> str:
    """Return a text without its numbers, bars, rules and line breaks."""
    return " ".join(re.sub(r"[▁▂▃▄▅▆▇█─]", "", NUMBER.sub("#", text)).split())


SMALLER = ["model.hidden=20", "public.size=200", "evaluation.test_samples=200"]
"""What makes a perceptron's run cheap and changes no word; with make test-all all is as shown."""


@pytest.mark.slow
def test_its_commands_print_what_it_shows(tmp_path, monkeypatch):
    def smaller(hydra, lines, **more):
        return check(hydra, [*lines, *(SMALLER if "model=mlp" in lines else [])], **more)

    check = compose.check
    if not thinning.whole:
        monkeypatch.setattr(compose, "check", smaller)
    (tmp_path / "my_partitioner.py").write_text(CODE, "utf-8")
    assert len(SESSIONS) >= 7
    for command, shown in SESSIONS:
        done = forked.command(shlex.split(command), tmp_path)
        assert "Traceback" not in done.stderr, done.stderr
        assert (done.returncode == 0) != shown.startswith("error: "), done.stderr
        printed = words(done.stdout + done.stderr)
        at = 0
        for part in filter(None, map(words, re.split(r" *\.\.\.(?:\n|$)", shown))):
            assert part in printed[at:], f"{command}\n{part}\n---\n{printed[at:]}"
            at = printed.index(part, at) + len(part)


def test_its_partitioner_is_the_example():
    assert CODE.strip() in (ROOT / "examples/my_partitioner.py").read_text("utf-8")
