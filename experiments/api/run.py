"""What a run left, as a Python object."""

from __future__ import annotations

import html
import webbrowser
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from experiments.config.process_objects import Objects
from experiments.results import Results, load, read_run
from experiments.results import Run as Files
from experiments.results.weights import Weights
from fedfuse.compare import CONTROLS, LOCAL
from fedfuse.errors import ConfigError
from fedfuse.files.paths import expand

if TYPE_CHECKING:
    import pandas as pd

    from experiments.api.client_model import OnRawInputs
    from experiments.api.deployed_model import DeployedModel
    from experiments.api.figures import Plots


class Run:
    """One run: its folder, and what is in it.

    Everything is read when it is asked for; nothing that the folder names is executed.

    Args:
        folder: The run folder.
        objects: The objects of this process that its configuration names.
        trust: Code of the user's own that it may name.
    """

    def __init__(
        self, folder: Path, objects: Objects | None = None, trust: Iterable[str] = ()
    ) -> None:
        self.folder = folder
        self._files = read_run(folder)
        self._objects = objects or Objects()
        self._trust = frozenset(trust)

    @property
    def method(self) -> str:
        """The method's name."""
        return self._files.method

    @property
    def seed(self) -> int:
        """The seed."""
        return self._files.seed

    @property
    def status(self) -> str:
        """``finished``, ``failed`` or ``running``."""
        return str(self._files.record.get("status", "unknown"))

    @property
    def finished(self) -> bool:
        """Whether it came to its end; else ``fedfuse.simulate(resume=run.folder)`` goes on."""
        return self._files.finished

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration, as plain values."""
        return self._files.config

    @property
    def summary(self) -> Mapping[str, Any]:
        """What ``summary.json`` holds: the numbers of the table that a command ends with."""
        return self._ended().summary

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Every number that was measured, as tidy rows.

        Columns: ``arm``, ``round`` (from 1), ``client_id`` (-1: the federation as a whole),
        ``phase``, ``metric``, ``value``.
        """
        from experiments.api.tables import metrics

        return metrics(self._files)

    @property
    def controls(self) -> tuple[str, ...]:
        """The ways of training alone that its method is compared with, the plain one first."""
        return tuple(self._files.controls)

    def gain(self, moment: str = "last", over: str = LOCAL) -> pd.DataFrame:
        """Return the method's gain over training alone, a row per test set.

        Args:
            moment: ``last`` round, or each arm's round of ``best_validation``.
            over: One of :attr:`controls`: ``local``, or ``local_adjusted`` where the method uses
                the clients' label priors, since much of a gain on the balanced test may be theirs.

        Returns:
            Indexed by ``accuracy_own`` and ``accuracy_global``; accuracies and gains are shares, 0
            to 1. The columns are those of :meth:`Sweep.compare`.

        Raises:
            ConfigError: If the run has not finished, or has no such control.
        """
        from experiments.api.tables import compared

        table = compared([self._ended()], moment, over)
        own = table[table["method"] == self.method]
        return own.drop(columns=["method", "seeds"]).set_index("test")

    @property
    def weights(self) -> npt.NDArray[np.floating]:
        """Who listened to whom, [rounds, K, K]: row i holds the weights of client i's teacher.

        Where weights differ by class this is their mean over the classes (:attr:`class_shares`).

        Raises:
            ConfigError: If the method fused no predictions, or there are too many clients for
                matrices of all of them (:meth:`round_weights`).
        """
        return self._fused().dense()

    def round_weights(
        self,
        round: int,  # noqa: A002
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.floating]]:
        """Return who was fused in a round, ids [k], and the weights between them, [k, k].

        Raises:
            ConfigError: If nobody was fused in that round.
        """
        found = self._fused()
        if round not in found.rounds:
            raise ConfigError(
                f"nobody was fused in round {round} of the run in '{self.folder}'",
                allowed=f"a round of fused_rounds, {found.rounds.tolist()}",
            )
        row = int(np.searchsorted(found.rounds, round))
        return found.clients[row], found.each[row]

    @property
    def fused_rounds(self) -> npt.NDArray[np.integer]:
        """The rounds that :attr:`weights` are of, [rounds]."""
        return self._fused().rounds

    @property
    def class_shares(self) -> npt.NDArray[np.floating]:
        """How much each client's knowledge counted for each class, [rounds, K, C].

        The mean over those who learned from it: columns sum to 1. Zero for who was not fused.

        Raises:
            ConfigError: If weights did not differ by class.
        """
        found = self._fused()
        if not found.class_shares:
            raise ConfigError(
                f"the weights of the run in '{self.folder}' do not differ by class",
                got=f"method {self.method}",
                allowed="a scorer by class, such as scorer=by_class",
            )
        return np.stack([found.by_class(row) for row in range(len(found.rounds))])

    @property
    def class_counts(self) -> npt.NDArray[np.integer]:
        """Training samples per client and class, [K, C]."""
        self._ended()
        return self._files.counts

    @cached_property
    def partition(self) -> pd.DataFrame:
        """Who owns which row of the files: ``client_id``, ``split``, ``index``, ``label``."""
        table = self._files.partition("client_id", "split", "index", "label")
        if table is None:
            raise ConfigError(f"the run in '{self.folder}' wrote no partition.parquet")
        found: pd.DataFrame = table.to_pandas()
        return found

    def model(
        self, client_id: int, *, model: object = None, trust: Iterable[str] = ()
    ) -> OnRawInputs:
        """Return the model that a client had at the end, with its preprocessing.

        It takes inputs as the data set holds them (pixels 0 to 255) and returns logits [B, C]. It
        is in eval mode, on the CPU, and a plain ``nn.Module``: train it on, or move it. Where a
        client sees its data changed (``partitioner=feature_rotation``), so must its model's inputs
        be. A method that judges clients by more than a network (``fedproto`` takes the nearest
        prototype) leaves the network, and one with a guard that decides what is deployed the model
        that fusion made (see :meth:`deployed`).

        Args:
            client_id: Whose it is.
            model: The class or function that builds it, where the run began with one that only
                that Python process had.
            trust: Code that the folder may name besides fedfuse's own, such as ``my_models.Net``;
                a run that this process made needs none.

        Raises:
            ConfigError: If the run left no models, has no such client, or names other code.
        """
        from experiments.api.client_model import load_client_model

        with self._objects:
            return load_client_model(
                self.folder, client_id, model=model, trust={*self._trust, *trust}
            )

    def deployed(
        self, client_id: int, question: str, *, model: object = None, trust: Iterable[str] = ()
    ) -> DeployedModel:
        """Return what a client answers a question with at the end, with its preprocessing.

        The model that fusion made, its local twin or the mixture of both, as the run's guard
        decided, and with the client's label prior as the run's tests read it. Without a guard it
        is the client's model. Inputs as for :meth:`model`.

        Args:
            client_id: Whose it is.
            question: ``own``: inputs distributed as the client's own data; ``balanced``: all
                classes alike.
            model: As for :meth:`model`.
            trust: Likewise.

        Raises:
            ConfigError: As of :meth:`model`, and for another question.
        """
        from experiments.api.deployed_model import load_deployed

        with self._objects:
            return load_deployed(
                self._files, client_id, question, model=model, trust={*self._trust, *trust}
            )

    def plot(self, *figures: str) -> Plots:
        """Return the report's figures; a notebook shows them.

        Args:
            figures: Names such as ``curves``, ``gains``, ``labels``; all if none is named.
        """
        from experiments.api.figures import plots

        return plots(Results((self._ended(),)), figures)

    def report(self, path: str | Path | None = None, *, show: bool = False) -> Path:
        """Write the report as one page, and return where.

        Args:
            path: The file; ``report.html`` in the run folder if None.
            show: Whether to open it in a browser.
        """
        self._ended()
        return write_report(self.folder, path, show=show)

    def _ended(self) -> Files:
        if not self.finished:
            raise ConfigError(
                f"the run in '{self.folder}' has not finished",
                got=f"status {self.status}",
                next_step=f"Go on with it: fedfuse.simulate(resume='{self.folder}').",
            )
        return self._files

    def _fused(self) -> Weights:
        found = self._files.weights
        if found is None:
            raise ConfigError(
                f"the run in '{self.folder}' has no weights",
                got=f"method {self.method}",
                allowed="a method that fuses predictions, after a round that did",
            )
        return found

    def __repr__(self) -> str:
        return f"<run of {self.method}, seed {self.seed}, {self.status}: {self.folder}>"

    def _repr_html_(self) -> str:
        told = f"<p><code>{html.escape(repr(self))}</code></p>"
        if not self.finished or self._files.baseline is None:
            return told
        tables = [str(self.gain(over=name)._repr_html_()) for name in self.controls]
        if len(tables) > 1:
            heads = [f"<p>gain over {CONTROLS[name]}</p>" for name in self.controls]
            tables = [head + table for head, table in zip(heads, tables, strict=True)]
        return told + "".join(tables)


def write_report(folder: Path, path: str | Path | None, *, show: bool) -> Path:
    """Write the report on a folder as one page, and return where."""
    from experiments.report.builder import tell
    from experiments.report.page import render, save

    target = folder / "report.html" if path is None else expand(path)
    written = save(target, lambda: render(tell(load(folder))))
    if show:
        webbrowser.open(written.resolve().as_uri())
    return written
