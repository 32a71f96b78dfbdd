"""What clients send and receive in a round, one way of exchange a file."""

from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Exchange, Tools

__all__ = ["Exchange", "Predictions", "Tools"]
