"""One live panel: for a person at a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel as Frame
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedfuse.compare import BRIEF
from fedfuse.safe_text import visible
from fedfuse.types import RoundRecord
from server.reporters.figures import clock, mean, named, percent, points
from server.reporters.protocol import RunInfo
from server.reporters.remaining import Remaining

LONG = 3.0
"""Seconds after which a client's steps are shown."""

STYLE = {True: "bold green", False: "bold red"}


class Panel:
    """A reporter that keeps one panel up to date, and leaves no trace of it.

    Args:
        console: The terminal; rich's own default if None.
        sweep: The place of the run in a sweep: its own seconds to what is shown of the sweep.
    """

    def __init__(
        self,
        console: Console | None = None,
        sweep: Callable[[float], str] = lambda _: "",
    ) -> None:
        self._console = console or Console()
        self._sweep = sweep
        self._live: Live | None = None
        self._info: RunInfo | None = None
        self._begun = 0.0
        self._remaining = Remaining((), 0)
        self._steps, self._worked = (0, 0), 0.0
        self._arm, self._round, self._phase, self._clients = "", 0, "", 0
        self._silent: set[int] = set()
        self._asked = 0.0
        self._finished: dict[str, int] = {}
        self._means: dict[tuple[str, int], tuple[float | None, float | None]] = {}

    def start(self, info: RunInfo) -> None:
        """Print who holds what, and show the panel below it."""
        self._info = info
        if info.preview:
            self._console.print(
                visible(info.preview, None, lines=True),
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        self._begun = monotonic()
        self._finished = dict.fromkeys(info.arms, 0)
        self._remaining = Remaining(info.arms, info.num_rounds)
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=4,
            transient=True,
        )
        self._live.start(refresh=True)

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Show the phase."""
        self._arm, self._round, self._phase, self._clients = arm, round_, phase, 0
        self._silent = set()
        self._steps, self._worked = (0, 0), monotonic()
        self._remaining.begin(arm, round_, self._worked)

    def client_done(self, client_id: int) -> None:
        """Count the client."""
        self._clients += 1
        self._silent.discard(client_id)
        self._steps, self._worked = (0, 0), monotonic()

    def step(self, done: int, total: int) -> None:
        """Show how far a client is that takes long."""
        self._steps = (done, total)

    def waiting(self, client_ids: Sequence[int], seconds: float) -> None:
        """Show who has not answered for unusually long, until they do."""
        self._silent, self._asked = set(client_ids), monotonic() - seconds

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Show the round's mean accuracies."""
        self._finished[arm] += 1
        self._remaining.done(arm, record.round, monotonic())
        self._clients, self._phase, self._silent = 0, "", set()
        own, overall = mean(record, "accuracy_own"), mean(record, "accuracy_global")
        if own is not None or overall is not None:
            self._means[arm, record.round] = (own, overall)

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> RenderableType:
        info = self._info
        if info is None:
            return Text()
        about = f"{info.dataset} · {info.partitioner} · {info.num_clients} clients · {info.model}"
        return Frame(
            Group(
                Text(visible(about), style="dim", overflow="ellipsis", no_wrap=True),
                self._arms(info),
                self._status(info),
                *self._silence(),
            ),
            title=Text(visible(f"fedfuse · {info.method}{info.against}"), style="bold"),
            title_align="left",
            box=box.ROUNDED,
            # Room for the ^C that a terminal echoes behind the last line; wrapped, it would move
            # the cursor and leave a piece of the panel behind.
            width=min(self._console.width - 2, 100),
        )

    def _arms(self, info: RunInfo) -> Table:
        further = info.controls[1:]
        grid = Table(box=None, expand=True, pad_edge=False, padding=(0, 1))
        grid.add_column("", no_wrap=True, max_width=14 if further else 12)
        grid.add_column("", ratio=1)
        grid.add_column("round", justify="right", no_wrap=True)
        beyond = [BRIEF.get(control, control) for control in further]
        for name in ("own", "gain", *beyond, "balanced", "gain", *beyond):
            grid.add_column(name, justify="right", no_wrap=True, min_width=5)
        for arm in info.arms:
            last = max((r for a, r in self._means if a == arm), default=0)
            cells = []
            for test, value in enumerate(self._mean(arm, last)):
                cells.append(Text(percent(value)))
                for control in info.controls or info.arms:
                    # Ways of training alone are compared with the first of them only.
                    apart = arm != control and (arm == info.arms[-1] or control == info.arms[0])
                    before = self._mean(control, last)[test] if apart else None
                    cells.append(_gain(value, before))
            grid.add_row(
                Text(visible(arm)),
                ProgressBar(total=info.num_rounds, completed=self._finished[arm]),
                f"{self._finished[arm]}/{info.num_rounds}",
                *cells,
            )
        return grid

    def _mean(self, arm: str, round_: int) -> tuple[float | None, float | None]:
        return self._means.get((arm, round_), (None, None))

    def _status(self, info: RunInfo) -> Text:
        elapsed = monotonic() - self._begun
        phase = f"{self._arm} round {self._round}" if self._arm else "starting"
        if self._phase:
            phase += f" · {self._phase}"
        if self._clients:
            phase += f" · {self._clients} of {info.num_clients} clients"
        if self._steps[1] and monotonic() - self._worked > LONG:
            phase += f" · step {self._steps[0]} of {self._steps[1]}"
        times = clock(elapsed)
        left = self._remaining.left(monotonic())
        if left is not None and any(done < info.num_rounds for done in self._finished.values()):
            times += f", about {clock(left)} left"
            times += self._sweep(elapsed + left)
        return Text(visible(f"{phase} · {times}"), overflow="ellipsis", no_wrap=True)

    def _silence(self) -> list[Text]:
        # Copied, because the server's thread may change it meanwhile.
        silent = sorted(self._silent.copy())
        if not silent:
            return []
        since = clock(monotonic() - self._asked)
        line = f"waiting for {named(silent)} ({since})"
        return [Text(line, style="yellow", overflow="ellipsis", no_wrap=True)]


def _gain(value: float | None, before: float | None) -> Text:
    if value is None or before is None:
        return Text("")
    shown = points(value - before)
    sign = shown.strip()[0]
    return Text(shown, style=STYLE[sign == "+"] if sign in "+-" else "")
