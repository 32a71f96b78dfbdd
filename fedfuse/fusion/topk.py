"""Find every client's best sources without ever holding all pairs: [K, C] to [K, k].

Exact, and the same as sorting the dense scores: best first, ties to the smaller client id, the
receiver itself strictly first (``include_self``) or left out. A block of float64 divergences is
written by one product and read once, for the least of each group of sources; only the ``k`` best
groups can hold the ``k`` best sources, so all that costs more per number sees a few hundred of
them, once per strip of receivers. Nothing waits for a number of the device: the host queues the
same operations whatever the values are. Scores agree with the dense ones to the rounding of a
float64 sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.blocks import spans
from fedfuse.fusion.divergences import FORMS, Form, exact, finish
from fedfuse.shapes import Float, Int

_GROUP = 32
_NUMBERS = 2**25  # float64 numbers of sources that are gathered at a time, 256 MiB
_ID_BITS = 32
_NOBODY = torch.iinfo(torch.int64).max


def distance_scores(divergences: Float[Tensor, "*batch"], beta: float) -> Float[Tensor, "*batch"]:
    """Return ``-beta * d``, so that weights are proportional to ``exp(-beta * d)``.

    ``beta=0`` gives exact zeros even beside an infinite divergence, hence exactly the plain mean.

    >>> distance_scores(torch.tensor([[0.0, 0.5], [0.25, 0.0]]), beta=10)
    tensor([[-0.0000, -5.0000],
            [-2.5000, -0.0000]])
    """
    if beta == 0:
        return torch.zeros_like(divergences)
    return -beta * divergences


def nearest(
    epds: Float[Tensor, "K C"],
    divergence: str,
    beta: float,
    k: int,
    include_self: bool = True,
    blocks: tuple[int, int] | None = None,
    bias: Float[Tensor, " K"] | None = None,
) -> tuple[Int[Tensor, "K k"], Float[Tensor, "K k"]]:
    """Return each client's ``k`` best sources by ``-beta * D(e_i || e_j)``, and their scores.

    With a bias they are the best by, and the scores are, ``-beta * D(e_i || e_j) + bias_j``.

    Args:
        epds: Class distributions.
        divergence: A name of :data:`fedfuse.fusion.divergences.FORMS`.
        beta: Sharpness of the scores.
        k: Sources per client; all of them if there are fewer.
        include_self: Whether the receiver counts as its own best source or is left out.
        blocks: Receivers and sources at a time; None for what suits the device.
        bias: What every source's score has for all receivers alike; None for nothing.

    Raises:
        KnowledgeError: If a row is not a distribution.

    >>> index, scores = nearest(torch.tensor([[0.5, 0.5], [0.4, 0.6], [0.1, 0.9]]), "l1", 10, k=2)
    >>> index
    tensor([[0, 1],
            [1, 0],
            [2, 1]])
    >>> scores.round()
    tensor([[ 0., -2.],
            [ 0., -2.],
            [ 0., -6.]])
    """
    num_clients = len(epds)
    own = torch.arange(num_clients, device=epds.device).unsqueeze(1)
    others = min(k - include_self, num_clients - 1)
    if bias is not None:
        bias = bias.float()  # as all scores: their bits sort
    own_scores = torch.zeros_like(own, dtype=torch.float32) if bias is None else bias.unsqueeze(1)
    if others < 1:
        return own, own_scores
    form = FORMS[divergence]
    search = Search(form, *form.prepare(_checked(exact(epds))), beta, bias)
    rows, columns = blocks or blocks_for(num_clients, epds.device)
    keys = [search.strip(part, columns, others) for part in spans(num_clients, rows)]
    index, costs = _unpack(torch.cat(keys))
    scores = 0.0 - costs  # no minus zero
    if include_self:
        index = torch.cat([own, index], dim=1)
        scores = torch.cat([own_scores, scores], dim=1)
    return index, scores


def best_everywhere(
    scores: Float[Tensor, " K"], k: int, include_self: bool = True
) -> tuple[Int[Tensor, "K k"], Float[Tensor, "K k"]]:
    """Return what :func:`nearest` returns where a source has the same score for everyone.

    >>> best_everywhere(torch.tensor([1.0, 3.0, 2.0]), k=2)[0]
    tensor([[0, 1],
            [1, 2],
            [2, 1]])
    """
    num_clients = len(scores)
    own = torch.arange(num_clients, device=scores.device).unsqueeze(1)
    others = min(k - include_self, num_clients - 1)
    if others < 1:
        return own, scores.unsqueeze(1)
    # One more than needed, so that whoever finds itself among the best can step over it.
    best = scores.argsort(descending=True, stable=True)[: others + 1]
    position = torch.arange(others, device=scores.device)
    found = (best == own).long().cumsum(dim=1)[:, :others]
    index = best[position + found]
    if include_self:
        index = torch.cat([own, index], dim=1)
    return index, scores[index]


class Search(NamedTuple):
    """Whom to find the best sources of, among whom.

    A source's *cost* is its score with the other sign, so that the least is the best.

    Args:
        form: The divergence.
        receivers: What it prepared of the receivers, [K, F].
        sources: What it prepared of the sources, [K, F].
        beta: Sharpness of the scores.
        bias: What every source's score has for all receivers alike; None for nothing.
    """

    form: Form
    receivers: Float[Tensor, "K F"]
    sources: Float[Tensor, "K F"]
    beta: float
    bias: Float[Tensor, " K"] | None

    def strip(self, part: slice, columns: int, count: int) -> Int[Tensor, "R count"]:
        """Return the keys of the best sources of some receivers, best first.

        Args:
            part: Which receivers.
            columns: Sources at a time.
            count: Sources per receiver.

        A source outside the ``count`` best groups, ties to the smaller position, is beaten by the
        best of each of them. Their members' costs are worked out again: 32 ``count`` of K.
        """
        num_sources, receivers = len(self.sources), self.receivers[part]
        columns = -(-columns // _GROUP) * _GROUP
        memory = receivers.new_empty(len(receivers) * min(columns, num_sources))
        num_groups = -(-num_sources // _GROUP)
        least = receivers.new_empty(num_groups, len(receivers), dtype=torch.float32)
        for some in spans(num_sources, columns):
            place = memory[: len(receivers) * len(self.sources[some])]
            # A source per row where many threads read side by side: neighbours are other receivers.
            on_cpu = place.device.type == "cpu"
            place = place.view(len(receivers), -1) if on_cpu else place.view(-1, len(receivers)).T
            costs = self.form.compare(receivers, self.sources[some], place)
            if self.bias is not None:
                costs = self._costs(costs, self.bias[some])
            # Nobody is a source of its own here; row r is in the column r - shift, if any.
            torch.diagonal(costs, part.start - some.start).fill_(torch.inf)
            best = _least_of_groups(costs.T)
            best = self._costs(best, None) if self.bias is None else best
            least[some.start // _GROUP :][: len(best)] = best
        inside = _members(_best(least, count))
        at_once = _NUMBERS // (inside.shape[1] * self.sources.shape[1])
        found = [
            self._nearest_of(inside[some], part.start + some.start, count)
            for some in spans(len(inside), at_once)
        ]
        return torch.cat(found)

    def _nearest_of(
        self, inside: Int[Tensor, "R N"], first: int, count: int
    ) -> Int[Tensor, "R count"]:
        """Return the keys of the best of some sources of each receiver from ``first`` on."""
        num_sources = len(self.sources)
        own = torch.arange(first, first + len(inside), device=inside.device).unsqueeze(1)
        absent = (inside >= num_sources) | (inside == own)
        inside = inside.clamp_max(num_sources - 1)
        sources = self.sources.index_select(0, inside.flatten()).view(*inside.shape, -1)
        receivers = self.receivers[first : first + len(inside)].unsqueeze(1)
        costs = self.form.compare(receivers, sources, None).squeeze(1)
        costs = self._costs(costs, None if self.bias is None else self.bias[inside])
        return _top(_pack(costs, inside).masked_fill_(absent, _NOBODY), count)

    def _costs(self, divergences: Tensor, bias: Tensor | None) -> Tensor:
        """Return what sources with these divergences cost, in float32."""
        scores = distance_scores(finish(divergences), self.beta)
        return -scores if bias is None else -(scores + bias)


def blocks_for(num_clients: int, device: torch.device) -> tuple[int, int]:
    """Return how many receivers and sources a device compares best at a time.

    On the CPU a block stays in the caches. On a device it is 1 GiB, and so are the costs of a
    strip's groups at most.
    """
    if device.type == "cpu":
        return 256, 2048
    return max(256, min(8192, 2**28 * _GROUP // num_clients)), 16384


def _least_of_groups(costs: Float[Tensor, "S R"]) -> Float[Tensor, "G R"]:
    """Return the least cost of each group of sources; the last may be a smaller one."""
    whole = len(costs) // _GROUP * _GROUP
    least: Tensor = costs[:whole].view(-1, _GROUP, costs.shape[1]).amin(dim=1)
    if whole == len(costs):
        return least
    return torch.cat([least, costs[whole:].amin(dim=0, keepdim=True)])


def _best(costs: Float[Tensor, "S R"], count: int) -> Int[Tensor, "R found"]:
    """Return the positions of each receiver's least costs, ties to the smaller position.

    All if there are fewer. Of many, the least of each 32 are asked first which of them to look at.
    """
    if len(costs) <= 2 * count * _GROUP:
        positions = torch.arange(len(costs), device=costs.device)
        return _unpack(_top(_pack(costs.T, positions), count))[0]
    inside = _members(_best(_least_of_groups(costs), count))
    absent = inside >= len(costs)
    inside = inside.clamp_max(len(costs) - 1)
    keys = _pack(costs.T.gather(1, inside), inside).masked_fill_(absent, _NOBODY)
    return _unpack(_top(keys, count))[0]


def _members(groups: Int[Tensor, "R n"]) -> Int[Tensor, "R N"]:
    """Return the positions that groups have, also those that the last has not."""
    within = torch.arange(_GROUP, device=groups.device)
    return (groups.unsqueeze(2) * _GROUP + within).flatten(1)


def _top(keys: Int[Tensor, "R S"], count: int) -> Int[Tensor, "R found"]:
    """Return each row's smallest keys, all if there are fewer, in ascending order."""
    return keys.topk(min(count, keys.shape[1]), dim=1, largest=False).values


def _pack(costs: Float[Tensor, "*shape"], ids: Int[Tensor, "*ids"]) -> Int[Tensor, "*shape"]:
    """Return integers that sort as (cost, id).

    The upper half is the cost's float32 bits, turned into an integer that sorts the same.
    """
    bounded = costs.clamp_max(torch.finfo(costs.dtype).max) + 0.0  # no minus zero
    order = _sortable(bounded.view(torch.int32)).long()
    keys: Tensor = order * 2**_ID_BITS + ids
    return keys


def _unpack(keys: Int[Tensor, "R S"]) -> tuple[Int[Tensor, "R S"], Float[Tensor, "R S"]]:
    """Return the ids and the costs that the keys were made of."""
    bits = _sortable((keys >> _ID_BITS).int())
    return keys & (2**_ID_BITS - 1), bits.view(torch.float32)


def _sortable(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Turn the bits of floats into integers that sort alike, or such integers into the bits."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _checked(e: Float[Tensor, "K C"]) -> Float[Tensor, "K C"]:
    """Return the distributions, or say whose is none."""
    wrong = (~e.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if wrong:
        raise KnowledgeError(
            "A client's estimated class distribution is none",
            got=f"NaN or infinite shares of the clients at {wrong[:5]}",
            allowed="shares from 0 that sum to 1",
        )
    return e
