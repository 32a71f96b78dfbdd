"""Read a node's first words: which clients it hosts, and whether it shares what all must share."""

from __future__ import annotations

from flwr.app import RecordDict

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.safe_text import visible
from fedfuse.wire.messages import CLIENTS, HEADER
from fedfuse.wire.record_checks import read_ids, take


def read_handshake(
    content: RecordDict, node_id: int, fingerprints: tuple[str, str], num_clients: int
) -> tuple[int, ...]:
    """Return the clients that a node hosts.

    Args:
        content: What it said.
        node_id: Which node, for messages.
        fingerprints: The server's hashes of the public set and of all else that is common.
        num_clients: K; ids from 0 to K-1 may be hosted.

    Raises:
        FedfuseError: If its hashes are others, or what it said is malformed.
    """
    who = f"Node {node_id}"
    header = take(content.config_records, HEADER, who)
    public, common = (visible(str(header.get(name, "")), 100) for name in ("public", "common"))
    if public != fingerprints[0]:
        raise FedfuseError(
            "A node holds another public set than the server",
            got=f"hash {public} on node {node_id}",
            allowed=f"hash {fingerprints[0]}",
            next_step="Give every host the same public samples in the same order.",
        )
    if common != fingerprints[1]:
        raise FedfuseError(
            "A node holds another test pool or another split of the data than the server",
            got=f"hash {common} on node {node_id}",
            allowed=f"hash {fingerprints[1]}",
            next_step="Give every host the same data set and the same configuration.",
        )
    record = take(content.array_records, CLIENTS, who)
    try:
        return read_ids(record, who, range(num_clients))
    except KnowledgeError as error:
        error.next_step = "Give each node another partition-id and all the same num_clients."
        raise
