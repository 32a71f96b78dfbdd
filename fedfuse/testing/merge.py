"""Check how models are merged."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fedfuse.declarations import declared, part_name
from fedfuse.layout import Layout
from fedfuse.merge import Merge, Vectors, merged
from fedfuse.merge.answers import answers
from fedfuse.rng import Streams
from fedfuse.stateful import collect, give_back
from fedfuse.testing.expect import expect, expect_close, expect_declared
from fedfuse.testing.failed import CheckFailed
from fedfuse.testing.randomness import global_randomness_untouched
from fedfuse.user_code import PartError


def example_vectors(count: int = 4, *, round_: int = 2, architecture: str = "small") -> Vectors:
    """Return models of some clients of a small network, each a little away from a common base.

    They are of clients 1, 3, 5 and so on, of unequal weights.
    """
    draw = torch.Generator().manual_seed(count)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 4)
        )
    layout = Layout.of(net).part(buffers=False)
    base = layout.flatten(net)
    weights = torch.arange(1, count + 1).double()
    vectors = base + 0.1 * torch.randn(count, len(base), generator=draw)
    public = torch.randn(20, 1, 3, 3, generator=draw)
    return Vectors(
        client_ids=2 * torch.arange(count) + 1,
        vectors=vectors,
        weights=weights / weights.sum(),
        base=base,
        layout=layout,
        architecture=architecture,
        round=round_,
        streams=Streams(0),
        predict=lambda samples: answers(net, layout, vectors, public[:samples]),
    )


def check_merge(merge: Merge) -> None:
    """Raise unless the merge keeps the promises of :class:`fedfuse.merge.Merge`.

    Finite float32 [1, N], or [R, N] where it declares ``personal = True``: for one model and for
    several, for clients that sent nothing too; a receiver's row does not depend on who else
    receives; the same on every call from the same memory, which :meth:`~fedfuse.protocols.Stateful`
    gives back; its inputs are left as they are; no randomness but the round's.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The merge {part_name(merge)}"
    expect_declared(name, merge, "merge")
    memory = collect({"merge": merge})

    def ask(models: Vectors, receivers: Tensor, kept: dict[str, Tensor] | None = None) -> Tensor:
        give_back({"merge": merge}, memory if kept is None else kept)
        before = models.vectors.clone()
        with global_randomness_untouched(name, f"{len(before)} models"):
            try:
                [rows] = merged(merge, [models], [receivers])
            except PartError as error:
                raise CheckFailed(str(error)) from error
        expect(torch.equal(before, models.vectors), name, "changes its inputs")
        return rows.expand(len(receivers), -1).clone()

    receivers = torch.arange(9)
    for count in (1, 2, 4):
        models = example_vectors(count)
        rows = ask(models, receivers)
        again = torch.equal(rows, ask(models, receivers))
        expect(again, name, "gives another result when it is called again")
        for one in ([0], [1], [0, 1, 8]):
            some = torch.tensor(one)
            expect_close(name, ask(models, some), rows[some], "depends on who else receives")
    ask(example_vectors(3, round_=1), receivers)
    kept, second = collect({"merge": merge}), example_vectors(3, round_=2)
    rows = ask(second, receivers, kept)
    ask(example_vectors(2, round_=7), receivers, kept)
    same = torch.equal(rows, ask(second, receivers, kept))
    expect(same, name, "remembers what its state does not hold")
    if not declared(merge, "needs_base", False):
        ask(replace(example_vectors(), base=None), receivers)
