"""Predictions on the public set up, one teacher per client down; slots of the server fuse them."""

from __future__ import annotations

from fedfuse.exchange.kind import Kind
from fedfuse.types import KnowledgeBank, Teachers

PREDICTIONS = Kind(KnowledgeBank, Teachers)
