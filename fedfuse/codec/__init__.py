"""Codecs: what predictions cost on the wire, by really encoding them.

A row code says how one prediction is written; :class:`RowCodec` sends its rows, all of them or the
changed ones, packed or entropy-coded. Any row code goes with any method, up and down.
"""

from fedfuse.codec.channel import PLAIN, Channel, channel_of
from fedfuse.codec.floats import Float16, Float32
from fedfuse.codec.parcel import (
    Parcel,
    open_knowledge,
    open_teachers,
    seal_knowledge,
    seal_teachers,
)
from fedfuse.codec.protocol import Codec, Encoded, Layout, RowCode, State
from fedfuse.codec.quantize import Quantize
from fedfuse.codec.row_codec import RowCodec
from fedfuse.codec.state import stack_states, state_rows
from fedfuse.codec.top_k import TopKCodes
from fedfuse.codec.uint8 import UInt8

__all__ = [
    "PLAIN",
    "Channel",
    "Codec",
    "Encoded",
    "Float16",
    "Float32",
    "Layout",
    "Parcel",
    "Quantize",
    "RowCode",
    "RowCodec",
    "State",
    "TopKCodes",
    "UInt8",
    "channel_of",
    "open_knowledge",
    "open_teachers",
    "seal_knowledge",
    "seal_teachers",
    "stack_states",
    "state_rows",
]
