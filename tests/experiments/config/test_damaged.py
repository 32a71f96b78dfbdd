"""Whatever a message about a damaged file is, it says what to do."""

import ast
import re
from pathlib import Path

import pytest

from experiments.config.damaged import damaged

ROOT = Path(__file__).parents[3]
PLACES = ("clients", "experiments", "fedfuse", "server")
DAMAGED = re.compile(
    r"damaged|(?<!not )(?:cannot|can) be read|is whole|does? not fit|say everything"
)


def bare(file: Path) -> list[str]:
    """Return the messages about what was read that end without a next step."""
    found = []
    for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        named = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if not named or call.func.id not in ("ConfigError", "FedfuseError"):
            continue
        text = ast.unparse(call.args[0]) if call.args else ""
        if DAMAGED.search(text) and not any(k.arg == "next_step" for k in call.keywords):
            found.append(f"{file.name}:{call.lineno}: {text}")
    return found


@pytest.mark.parametrize("place", PLACES)
def test_every_message_about_what_cannot_be_read_names_a_next_step(place: str) -> None:
    files = sorted((ROOT / place).rglob("*.py"))
    assert files
    told = [line for file in files for line in bare(file)]
    assert told == []


def test_it_says_what_was_found_in_one_line() -> None:
    told = str(damaged(Path("run"), ValueError("a\nb")))
    assert told.startswith("the run folder 'run' is damaged: got ValueError: a b. Restore it")
