"""Check a way to exchange; it has a client's half, so its check needs fedfuse's clients."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def check_exchange(exchange: object, model: Callable[..., Any] | None = None) -> None:
    """Raise unless an exchange keeps the promises of ``clients.exchange.Exchange``.

    It is a frozen dataclass; its payloads declare every field, and what is shared and combined is
    what they declare, of the clients that were asked; it repeats itself bit by bit, also if clients
    share no process and the run is resumed after every round.

    Args:
        exchange: The exchange.
        model: Makes the clients' models; None for a small perceptron.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    # By name, as what lies below must run where the clients are not installed.
    import_module("clients.testing").check_exchange(exchange, model)
