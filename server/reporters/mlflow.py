"""Show a run in MLflow."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from fedfuse.errors import FedfuseError
from fedfuse.types import RoundRecord
from server.reporters.extras import require_extra
from server.reporters.protocol import RunInfo
from server.reporters.scalars import scalars

_QUIET = {
    # Usage statistics are off unless the user turned them on, as everywhere in fedfuse.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that does not answer must not hold a run up for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MLflow:
    """A reporter that writes an MLflow run: parameters once, metrics after every round.

    The method's metrics keep their names, the baseline's are under its own (``local/...``). A
    server that is lost during the run is told of once; the run goes on, its folder has it all.

    Args:
        tracking_uri: The server or data base; MLflow's own choice if None (``MLFLOW_TRACKING_URI``,
            or ``mlflow.db`` in the current folder).
        experiment: The MLflow experiment; made if there is none of that name.

    Raises:
        ConfigError: If MLflow is not installed.
    """

    def __init__(self, tracking_uri: str | None = None, experiment: str = "fedfuse") -> None:
        require_extra("mlflow", ["mlflow", "sqlalchemy", "alembic"])
        self._uri = tracking_uri
        self._experiment = experiment
        self._client: Any = None
        self._run = self._method = ""
        self._missing = 0

    def start(self, info: RunInfo) -> None:
        """Open an MLflow run.

        Raises:
            FedfuseError: If MLflow cannot be reached; nothing has been trained then.
        """
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._method = info.arms[-1]
        self._missing = len(info.arms) * info.num_rounds
        try:
            client = MlflowClient(tracking_uri=self._uri)
            found = client.get_experiment_by_name(self._experiment)
            experiment = (
                found.experiment_id if found else client.create_experiment(self._experiment)
            )
            name = info.folder.name if info.folder else info.method
            tags = {"fedfuse.folder": str(info.folder)} if info.folder else {}
            self._run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
            items = [Param(key, str(value)[:500]) for key, value in info.flat_config().items()]
            for start in range(0, len(items), 100):  # MLflow takes no more at once
                client.log_batch(self._run, params=items[start : start + 100])
        except (MlflowException, OSError) as error:
            raise FedfuseError(
                f"MLflow cannot be reached: {_brief(error)}.",
                got=f"reporter.tracking_uri={self._uri}",
                next_step="Mend reporter.tracking_uri or MLFLOW_TRACKING_URI, or leave the "
                "reporter out.",
            ) from error
        self._client = client

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Write nothing."""

    def client_done(self, client_id: int) -> None:
        """Write nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Write the round's numbers."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        at = int(1000 * time.time())
        prefix = "" if arm == self._method else f"{arm}/"
        metrics = [
            Metric(f"{prefix}{name}", value, at, record.round)
            for name, value in scalars(record).items()
        ]
        self._tell(lambda: self._client.log_batch(self._run, metrics=metrics))
        self._missing -= 1

    def close(self) -> None:
        """End the MLflow run: finished if every round of every arm came, failed if not."""
        if self._client is not None:
            status = "FAILED" if self._missing else "FINISHED"
            self._tell(lambda: self._client.set_terminated(self._run, status))
            self._client = None

    def _tell(self, call: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            call()
        except (MlflowException, OSError) as error:
            sys.stderr.write(f"MLflow is no longer told of this run: {_brief(error)}\n")
            self._client = None


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
