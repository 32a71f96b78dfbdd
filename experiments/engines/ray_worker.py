"""What a Ray worker is: imported while Ray starts, before the worker is asked for anything.

Flower's own worker lies in a package that imports the whole of its server and of its command line.
"""

from __future__ import annotations

from collections.abc import Callable

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import ClientAppException, LoadClientAppError

import experiments.assembly.node  # noqa: F401 - what the app's nodes are made of


@ray.remote
class Worker:
    """Answers messages with Flower's ClientApp."""

    def run(
        self, app: Callable[[], ClientApp], message: Message, context: Context
    ) -> tuple[Message, Context]:
        """Return the reply and the node's context after it.

        Raises:
            ClientAppException: If the app raised something.
        """
        try:
            return app()(message=message, context=context), context
        except LoadClientAppError:
            raise
        except Exception as error:
            raise ClientAppException(str(error)) from error
