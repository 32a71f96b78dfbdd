"""What all tests share: shapes that are checked, a small federation, and which tests run.

``make test-fast`` runs what makes no whole run and starts no process. ``make test`` runs every
test, but of long sweeps a part: mark a test over a product of parameters with
``@pytest.mark.thinned`` and as many cases run as let every value occur; with
``@pytest.mark.thinned(keep=5)`` five of them, and none of what has ``keep=0``;
``tests.thinning.few(3, of=10)`` is a count. ``make test-all`` runs everything. What is tested in no
other case must never be thinned.

jaxtyping's import hook rewrites the modules named below as they are imported, so it has to stand
before anything imports them; pytest loads this file first.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import jaxtyping
import pytest
from _pytest.doctest import DoctestModule
from beartype import BeartypeConf, FrozenDict, beartype
from hypothesis import is_hypothesis_test, settings

from fedfuse import protocols
from fedfuse.train.optimizers import spare_compiler
from tests import thinning
from tests.tiny import TINY

if TYPE_CHECKING:
    from experiments.api.run import Run

gc.disable()  # until all tests are there: what is imported until then stays to the end

# Tests make thousands of small runs, each of which forces sixty files to disk. What survives a
# power cut tests/robustness/test_power_loss.py tests on a model of the disk, made of these calls.
os.fsync = lambda _: None

CHECKED = ("fedfuse.fusion", "fedfuse.distill", "fedfuse.uptake")

# A protocol cannot be checked by isinstance, and a plain function may stand in for each of them:
# what has to hold is that the part can be called. An int is a float, as in every type checker.
_PARTS = (
    protocols.Scorer,
    protocols.Neighbours,
    protocols.Rule,
    protocols.Sharpen,
    protocols.PlainDistillLoss,
    protocols.DistillLossWantsFacts,
    protocols.Uptake,
)
_CONF = BeartypeConf(
    is_pep484_tower=True,
    hint_overrides=FrozenDict(dict.fromkeys(_PARTS, Callable[..., Any])),
)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate all but constructors, whose mistakes are for the class's own validation to find."""
    return function if function.__name__ == "__init__" else beartype(conf=_CONF)(function)


CHECKED_CALLS = 8
"""How many calls of a function are checked in each test; with ``make test-all`` all of them."""
_test = 0
_jaxtyped = jaxtyping.jaxtyped


def jaxtyped(**chosen: Any) -> Callable[[Any], Any]:
    """Check the first calls in each test: a loop's thousandth has the shapes of its first.

    To check every call was a third of the time of what tests fusion.
    """
    decorate = _jaxtyped(**chosen)

    def decorator(function: Any) -> Any:
        checked = decorate(function)
        if not isinstance(function, FunctionType):
            return checked
        seen = left = 0

        @wraps(checked)
        def some(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen, left
            if seen != _test:
                seen, left = _test, CHECKED_CALLS
            if left == 0 and not thinning.whole:
                return function(*args, **kwargs)
            left -= 1
            return checked(*args, **kwargs)

        return some

    return decorator


jaxtyping.jaxtyped = jaxtyped  # what the hook writes before each function

# The hook imports its type checker by name, and a conftest has none.
_module = ModuleType("fedfuse_shape_checks")
_module.check = check  # type: ignore[attr-defined]
sys.modules[_module.__name__] = _module

_early = [name for name in sys.modules if name.startswith(CHECKED)]
if _early:
    raise RuntimeError(f"imported before their shapes could be checked: {', '.join(_early)}")
jaxtyping.install_import_hook(list(CHECKED), f"{_module.__name__}.check")
spare_compiler()  # as a run does: else the first optimiser costs each worker two seconds


# -- one small federation --------------------------------------------------------------------------


@pytest.fixture
def simulate(tmp_path: Path) -> Callable[..., Run]:
    """Run a small federation in this process: ``simulate("method=mean", "num_clients=4")``.

    It is ``fedfuse.simulate`` with the words of ``tests.tiny.TINY`` (synthetic images, an mlp, 3
    clients, 2 rounds) where the test has none of its own, a new folder below ``tmp_path`` for every
    run, and nothing printed. Another option than theirs (``dataset=custom``) drops their keys of
    that group. What a run may not do raises its error.
    """
    import fedfuse

    made: list[Path] = []

    def run(*words: str, **keys: Any) -> Run:
        own = dict(word.split("=", 1) for word in words)
        tiny = dict(word.split("=", 1) for word in (*TINY, "num_clients=3"))
        others = {group for group in tiny.keys() & own.keys() if tiny[group] != own[group]}
        chosen = {key: value for key, value in tiny.items() if key.split(".")[0] not in others}
        chosen |= own
        made.append(tmp_path / f"run-{len(made) + 1}")
        lines = [f"{key}={value}" for key, value in chosen.items()]
        return fedfuse.simulate(*lines, out=made[-1], progress=False, **keys)

    return run


# -- make test-fast, make test, make test-all ------------------------------------------------------

NOT_FAST = {"slow", "ray", "deployment", "browser", "shared_data"}
WHOLE = re.compile(
    r"^\s*(from|import) (subprocess|multiprocessing"
    r"|experiments\.runs\.lifecycle"
    r"|experiments\.(run|flower|engines|benchmarks|api)|experiments\.(map|advise|report)\.command)\b"
    r"|\bsimulate\b|^\s*import fedfuse$",
    re.MULTILINE,
)
"""What a test file says that makes whole runs or starts processes."""

PROCESSES = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
PROCESSES += ("multiprocessing.start",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--fast`` and ``--all``."""
    parser.addoption("--fast", action="store_true", help="no whole runs and no processes")
    parser.addoption("--all", action="store_true", help="every case of what is thinned, too")


def pytest_configure(config: pytest.Config) -> None:
    """Say whether everything runs, before a test file asks: ``--all``, or a test is named."""
    thinning.whole = config.getoption("--all") or any("::" in arg for arg in config.args)
    config.pluginmanager.register(DoctestsWhereThereAreAny)  # also beside this folder


class DoctestsWhereThereAreAny:
    """Look for examples where a file has a prompt: else each worker imports every module."""

    @staticmethod
    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(file_path: Path) -> Iterator[list[pytest.Collector]]:
        """Leave out the doctests of a file that has none."""
        found = yield
        if file_path.suffix == ".py" and ">>> " not in file_path.read_text(encoding="utf-8"):
            found = [one for one in found if not isinstance(one, DoctestModule)]
        return found


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--fast``, leave out the files that make whole runs or start processes."""
    if not config.getoption("--fast") or not collection_path.name.startswith("test_"):
        return None
    return bool(WHOLE.search(collection_path.read_text(encoding="utf-8"))) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is thinned, and with ``--fast`` what is marked as slow."""
    left = set() if thinning.whole else _thinned(items)
    if config.getoption("--fast"):
        _fewer_examples(items)
        left |= {i for i in items if NOT_FAST & {mark.name for mark in i.iter_markers()}}
    if left:
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]
    _longest_first(items)


def pytest_collection_finish() -> None:
    """Leave what is there now out of every collection of garbage to come."""
    gc.freeze()
    gc.set_threshold(20_000)  # of young objects; at Python's 700 a twentieth of the whole time
    gc.enable()


def _fewer_examples(items: list[pytest.Item]) -> None:
    """Let hypothesis try a quarter of its examples, three at least."""
    drawn = {item.obj for item in items if is_hypothesis_test(getattr(item, "obj", None))}
    for test in drawn:
        usual = test._hypothesis_internal_use_settings
        fewer = settings(usual, max_examples=max(3, usual.max_examples // 4))
        test._hypothesis_internal_use_settings = fewer


def _longest_first(items: list[pytest.Item]) -> None:
    """Let files that start processes or take long come first, so that no worker ends with them.

    Without their marks, a file with more tests takes longer. Within a file the order stays.
    """
    sizes, slow = Counter(item.path for item in items), Counter[Path]()
    for item in items:
        slow[item.path] += len(NOT_FAST & {mark.name for mark in item.iter_markers()})
    items.sort(key=lambda item: (-slow[item.path], -sizes[item.path], str(item.path)))


def _thinned(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return the cases of thinned tests that do not run."""
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("thinned"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left: set[pytest.Item] = set()
    for cases in tests.values():
        mark = cases[0].get_closest_marker("thinned")
        if mark is not None and "keep" in mark.kwargs:
            kept = thinning.spread(cases, mark.kwargs["keep"])
        else:
            kept = thinning.cover({case: _values(case) for case in cases})
        left |= set(cases) - set(kept)
    return left


def _values(case: pytest.Function) -> list[tuple[str, str]]:
    return [(name, repr(value)) for name, value in case.callspec.params.items()]


_forbidden = False


def _no_processes(event: str, args: tuple[Any, ...]) -> None:
    if _forbidden and event in PROCESSES:
        raise RuntimeError("a fast test starts a process: mark it as slow (tests/conftest.py)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Keep the choice right: with ``--fast`` a test fails that starts a process, or its fixture."""
    global _forbidden, _test
    _test += 1
    _forbidden = bool(item.config.getoption("--fast"))
    try:
        return (yield)
    finally:
        _forbidden = False


def _audited(start: Callable[[BaseProcess], None]) -> Callable[[BaseProcess], None]:
    """Let Python's own processes be heard of too; of those that it spawns it says nothing."""

    def audited(self: BaseProcess) -> None:
        sys.audit("multiprocessing.start")
        start(self)

    return audited


BaseProcess.start = _audited(BaseProcess.start)  # type: ignore[method-assign]
sys.addaudithook(_no_processes)
