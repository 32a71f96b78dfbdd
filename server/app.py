"""The Flower ServerApp: meet the nodes, then run the arms one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedfuse.fusion.pipeline import Pipeline
from fedfuse.types import FederatedData
from server.loop import ServerPlan, run_arm
from server.reporters.protocol import Reporter, RunInfo
from server.transport import Federation


@dataclass(frozen=True, slots=True)
class ServerSetup:
    """Everything the server needs.

    Args:
        info: What is known before the first round; names the arms.
        pipelines: Each arm's pipeline, None for an arm whose clients learn alone.
        plan: What the server does.
        data: The federation's data, of which the server looks at the public set only.
        reporter: Who watches.
    """

    info: RunInfo
    pipelines: Mapping[str, Pipeline | None]
    plan: ServerPlan
    data: FederatedData
    reporter: Reporter


def make_server_app(build: Callable[[Context], ServerSetup]) -> ServerApp:
    """Return a ServerApp that runs the arms of the setup that ``build`` makes."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        setup = build(context)
        federation = Federation(
            grid,
            num_clients=setup.plan.num_clients,
            num_public=len(setup.data.public),
            num_classes=setup.data.num_classes,
            public_fingerprint=setup.data.public.fingerprint(),
        )
        setup.reporter.start(setup.info)
        for arm in setup.info.arms:
            run_arm(arm, federation, setup.pipelines[arm], setup.plan, setup.reporter)

    return app
