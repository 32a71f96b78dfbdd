"""Find every client's best sources without ever holding all pairs: [K, C] to [K, k].

Exact, and the same as sorting the dense scores: best first, ties to the smaller client id, the
receiver itself strictly first (``include_self``) or left out. A block of float64 divergences is
written by one product and read once, for the least of each group of sources; only the ``k`` best
groups can hold the ``k`` best sources, so all that costs more per number sees a few hundred of
them. Scores agree with the dense ones to the rounding of a float64 sum, whatever the blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.divergences import FORMS, Form, exact, finish
from fedfuse.shapes import Float, Int

_GROUP = 32
_ID_BITS = 32
_NOBODY = torch.iinfo(torch.int64).min

Score = Callable[[Tensor], Tensor]
"""What a source costs, such as a divergence, to its score in float32."""


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
    receivers, sources = form.prepare(_checked(exact(epds)))
    rows, columns = blocks or ((256, 4096) if epds.device.type == "cpu" else (8192, 32768))
    keys = torch.cat(
        [
            _best_of_rows(form, receivers, sources, start, rows, columns, beta, others, bias)
            for start in range(0, num_clients, rows)
        ]
    )
    index, scores = _unpack(keys)
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


def _best_of_rows(
    form: Form,
    receivers: Float[Tensor, "K F"],
    sources: Float[Tensor, "K F"],
    start: int,
    rows: int,
    columns: int,
    beta: float,
    count: int,
    bias: Float[Tensor, " K"] | None,
) -> Int[Tensor, "R count"]:
    """Return the keys of the best sources of the receivers from ``start`` on, best first."""
    block = receivers[start : start + rows]
    best = block.new_empty(len(block), 0, dtype=torch.int64)
    memory = block.new_empty(len(block) * min(columns, len(sources)))

    def plain(divergences: Tensor) -> Tensor:
        return distance_scores(finish(divergences), beta)

    score: Score
    for first in range(0, len(sources), columns):
        some = sources[first : first + columns]
        place = memory[: len(block) * len(some)]
        # A source per row where many threads read side by side: neighbours are other receivers.
        on_cpu = place.device.type == "cpu"
        place = place.view(len(block), -1) if on_cpu else place.view(-1, len(block)).T
        costs, score = form.compare(block, some, place), plain
        if bias is not None:
            biased = plain(costs) + bias[first : first + columns]
            costs, score = -biased.clamp_min(torch.finfo(biased.dtype).min), torch.neg
        _leave_out_self(costs, first - start)
        best = _merge(best, costs, first, score, count)
    return best


def _merge(
    best: Int[Tensor, "R found"],
    costs: Float[Tensor, "R S"],
    first: int,
    score: Score,
    count: int,
) -> Int[Tensor, "R more"]:
    """Return the keys of the best sources so far with those of a block of later ids, best first.

    The less a source costs, the higher it scores.

    A source outside the ``count`` best groups, ties to the smaller position, is beaten by the best
    of each of them. Nor does a group matter whose best does not beat the last of the best so far,
    which has a smaller id and wins a tie: after the first block hardly any group does.
    """
    num_rows, num_sources = costs.shape
    ids = torch.arange(first, first + num_sources, device=costs.device)
    if num_sources <= count * _GROUP:
        return _top(torch.cat([best, _pack(costs, ids, score)], dim=1), count)
    whole = num_sources // _GROUP * _GROUP
    groups = costs[:, :whole].unflatten(1, (-1, _GROUP))  # type: ignore[no-untyped-call]
    if best.shape[1] == count:
        best = _merge_few(best, groups, first, score)
        if whole < num_sources:
            rest = _pack(costs[:, whole:], ids[whole:], score)
            best = _top(torch.cat([best, rest], dim=1), count)
        return best
    ranked = _pack(groups.amin(dim=2), torch.arange(groups.shape[1], device=ids.device), score)
    chosen = _unpack(_top(ranked, count))[0]
    inside = chosen.unsqueeze(2).expand(-1, -1, _GROUP)
    candidates = torch.cat([groups.gather(1, inside).flatten(1), costs[:, whole:]], dim=1)
    chosen_ids = ids[:whole].view(-1, _GROUP)[chosen].flatten(1)
    candidate_ids = torch.cat([chosen_ids, ids[whole:].expand(num_rows, -1)], dim=1)
    return _top(torch.cat([best, _pack(candidates, candidate_ids, score)], dim=1), count)


def _merge_few(
    best: Int[Tensor, "R count"], groups: Float[Tensor, "R G size"], first: int, score: Score
) -> Int[Tensor, "R count"]:
    """Merge what beats the last of the best so far: of later blocks a few sources per receiver."""
    count, size = best.shape[1], groups.shape[2]
    least = (best[:, -1] >> _ID_BITS).int()
    row, group = (_order(score(groups.amin(dim=2))) > least[:, None]).nonzero(as_tuple=True)
    costs = groups[row, group]
    which, place = (_order(score(costs)) > least[row, None]).nonzero(as_tuple=True)
    row, group = row[which], group[which]
    if len(row) == 0:
        return best
    keys = _pack(costs[which, place], first + size * group + place, score)
    found = row.bincount(minlength=len(best))
    column = torch.arange(len(row), device=row.device) - (found.cumsum(0) - found)[row]
    table = best.new_full((len(best), count + int(found.max())), _NOBODY)
    table[:, :count] = best
    table[row, count + column] = keys
    return _top(table, count)


def _top(keys: Int[Tensor, "R S"], count: int) -> Int[Tensor, "R found"]:
    """Return each row's largest keys, all if there are fewer, in descending order."""
    return keys.topk(min(count, keys.shape[1]), dim=1).values


def _leave_out_self(costs: Float[Tensor, "R S"], shift: int) -> None:
    """Put infinity where row ``r`` meets itself, the column ``r - shift``, if there, in place."""
    torch.diagonal(costs, -shift).fill_(torch.inf)


def _pack(
    costs: Float[Tensor, "*shape"], ids: Int[Tensor, "*ids"], score: Score
) -> Int[Tensor, "*shape"]:
    """Return integers that sort as (score, smaller id), and last of all the receiver itself.

    The upper half is the score's float32 bits, turned into an integer that sorts the same.
    """
    order = _order(score(costs)).long()
    keys: Tensor = order * 2**_ID_BITS + (2**_ID_BITS - 1 - ids)
    return keys.masked_fill_(costs == torch.inf, _NOBODY)


def _order(scores: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Return integers of 32 bits that sort as the scores do."""
    bounded = scores.clamp_min(torch.finfo(scores.dtype).min) + 0.0  # no minus zero
    return _sortable(bounded.view(torch.int32))


def _unpack(keys: Int[Tensor, "R S"]) -> tuple[Int[Tensor, "R S"], Float[Tensor, "R S"]]:
    """Return the ids and the scores that the keys were made of."""
    bits = _sortable((keys >> _ID_BITS).int())
    return 2**_ID_BITS - 1 - (keys & (2**_ID_BITS - 1)), bits.view(torch.float32)


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
