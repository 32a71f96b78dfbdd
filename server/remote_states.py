"""What the clients remember, brought to the server and back: the better part of a checkpoint."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from safetensors.torch import save
from torch import Tensor

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.messages import LOAD, LOCATE, PREPARE, SAVE, STATES, TOKENS, Header
from fedfuse.records import read_arrays, take
from fedfuse.statefile import merged, state_path
from server.patience import Patience
from server.requests import Hosts, array_record, opening

CHUNK = 8
"""Clients whose states travel in one message. It is copied several times between worker and server,
and what large copies took does not all come back to the system: with 32 the server of 1,000 LeNet
clients was 220 MiB larger."""

FILES = 32
"""State files that become one file of a checkpoint, each of which is forced to disk."""


@dataclass(frozen=True, slots=True)
class RemoteStates:
    """The states of clients on other nodes.

    Args:
        grid: Flower's way to the nodes.
        hosts: Who hosts whom.
        patience: How long to wait.
        folder: Where the clients' states wait as files, if the server reaches them: then it reads
            them there, and nodes only say which count. None if it must ask for what they hold.
    """

    grid: Grid
    hosts: Hosts
    patience: Patience
    folder: Path | None = None

    @property
    def apart(self) -> bool:
        """Whether what :meth:`save` returns may be read while the clients go on."""
        return self.folder is not None

    def prepare(self, header: Header) -> None:
        """Let all clients begin, so that there is something to save before the first round.

        Raises:
            FedfuseError: If a node does not answer.
        """
        for _ in self._ask(_about(self.hosts, PREPARE, header, at_once=sys.maxsize)):
            pass

    def save(self, header: Header) -> Iterator[bytes]:
        """Return all that the clients remember, some clients at a time, as safetensors.

        Raises:
            FedfuseError: If a node does not answer, or a file is not there.
        """
        if self.folder is None:
            return self._handed_over(header)
        return _read(self._link(header, self.folder))

    def load(self, header: Header, states: Mapping[int, dict[str, Tensor]]) -> None:
        """Let the clients remember what :meth:`save` yielded.

        Raises:
            FedfuseError: If a node does not answer.
        """
        for _ in self._ask(_about(self.hosts, LOAD, header, states)):
            pass

    def _handed_over(self, header: Header) -> Iterator[bytes]:
        for _, reply in self._ask(_about(self.hosts, SAVE, header)):
            yield reply.content.array_records[STATES][STATES].numpy().tobytes()

    def _link(self, header: Header, folder: Path) -> dict[int, Path]:
        """Return the file in which each client's state waits, under a name of the server's own.

        Clients remove their old versions when they write new ones.
        """
        known: dict[int, int] = {}
        for message, reply in self._ask(_about(self.hosts, LOCATE, header, at_once=sys.maxsize)):
            hosted = self.hosts[message.metadata.dst_node_id]
            known.update(zip(hosted, _read_tokens(reply, len(hosted)), strict=True))
        own = folder / "saving"
        links: dict[int, Path] = {}
        try:
            own.mkdir(exist_ok=True)
            for client_id, token in sorted(known.items()):
                if token:  # who has not done anything yet has no file
                    there = state_path(folder, header.arm, client_id, token)
                    links[client_id] = own / there.name
                    _link_or_copy(there, links[client_id])
        except OSError as error:
            raise _unread(own, error) from error
        return links

    def _ask(self, requests: Iterable[list[Message]]) -> Iterator[tuple[Message, Message]]:
        for messages in requests:
            for message, reply in self.patience.ask(self.grid, messages):
                if isinstance(reply, str):
                    raise FedfuseError(
                        f"Node {message.metadata.dst_node_id} cannot save or load its clients",
                        got=reply,
                    )
                yield message, reply


def _read(links: Mapping[int, Path]) -> Iterator[bytes]:
    """Yield the files, several as one, and remove them."""
    ids = list(links)
    for first in range(0, len(ids), FILES):
        some = ids[first : first + FILES]
        try:
            content = merged({i: links[i].read_bytes() for i in some})
            for i in some:
                links[i].unlink()
        except (OSError, ValueError) as error:
            raise _unread(links[ids[first]].parent, error) from error
        yield content


def _unread(folder: Path, error: Exception) -> FedfuseError:
    return FedfuseError(
        f"The states of the clients cannot be read from '{folder}'",
        got=str(error),
        next_step="Where nodes and server share no folder, set client.state=context.",
    )


def _link_or_copy(there: Path, here: Path) -> None:
    here.unlink(missing_ok=True)  # of a checkpoint that could not be written
    try:
        here.hardlink_to(there)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(there, here)


def _about(
    hosts: Hosts,
    message_type: str,
    header: Header,
    states: Mapping[int, dict[str, Tensor]] | None = None,
    at_once: int = CHUNK,
) -> Iterator[list[Message]]:
    """Yield messages about what clients remember, for a few clients at a time.

    Args:
        hosts: Who hosts whom.
        message_type: Whether they save, load or locate.
        header: Goes to every node.
        states: What they are to remember, by client; None asks all of them what they do.
        at_once: How many clients of a node one message is about.
    """
    known = {
        node_id: [i for i in hosted if states is None or i in states]
        for node_id, hosted in hosts.items()
    }
    for first in range(0, max(map(len, known.values()), default=0), at_once):
        messages = []
        for node_id, hosted in known.items():
            if not (ids := hosted[first : first + at_once]):
                continue
            content = opening(header, {"client_ids": np.array(ids, dtype=np.int64)})
            if states is not None:
                flat = {f"{i}/{name}": v for i in ids for name, v in states[i].items()}
                content[STATES] = array_record({STATES: np.frombuffer(save(flat), np.uint8)})
            messages.append(Message(content, node_id, message_type))
        yield messages


def _read_tokens(reply: Message, num_clients: int) -> list[int]:
    record = take(reply.content.array_records, TOKENS, "The reply")
    tokens = read_arrays(record, "The reply").get(TOKENS)
    if tokens is None or tokens.dtype != np.int64 or tokens.shape != (num_clients,):
        raise KnowledgeError(
            "The reply does not say which states count",
            got="nothing" if tokens is None else f"{tokens.dtype} {list(tokens.shape)}",
            allowed=f"int64 [{num_clients}]",
        )
    values: list[int] = tokens.tolist()
    return values
