"""Which clients stand side by side in a batch of many, and how their samples are laid there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedfuse.train.moments import trained
from fedfuse.train.trainer import Student
from fedfuse.train.views import same_views
from fedfuse.train.work import Work


def alike(rows: Sequence[int], works: Sequence[Work]) -> list[list[int]]:
    """Return the rows whose works minimise the same together, each group in their order."""
    groups: list[list[int]] = []
    for row in rows:
        mine = works[row]
        for group in groups:
            first = works[group[0]]
            same = (mine.loss, mine.anchor is None) == (first.loss, first.anchor is None)
            if same and same_views(mine.views, first.views):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Return parts [N_i, ...] as one tensor [k, N, ...], shorter ones with something behind."""
    lengths = torch.tensor([len(part) for part in parts])
    joined = torch.cat(list(parts))
    if bool((lengths == lengths[0]).all()):
        return joined.view(len(parts), int(lengths[0]), *joined.shape[1:])
    within = torch.arange(int(lengths.max())).minimum(lengths.unsqueeze(1) - 1).clamp(min=0)
    rows = ((lengths.cumsum(0) - lengths).unsqueeze(1) + within).clamp(max=len(joined) - 1)
    return joined[rows.to(joined.device)]


def largest_batch(works: Sequence[Work]) -> int:
    """Return the samples that one client needs at once, those of an anchor included."""
    sizes = [max(work.schedule.sizes, default=0) for work in works]
    anchors = [max(w.anchor.schedule.sizes, default=0) for w in works if w.anchor is not None]
    return max(sizes) + max(anchors, default=0)


def together(students: Sequence[Student]) -> list[list[int]]:
    """Return which students' parameters lie in one matrix, each group in the matrix's order.

    Students whose parameters lie in none yet form one group.
    """
    groups: dict[int, list[int]] = {}
    first = [trained(student.optimizer)[0] for student in students]
    for row, parameter in enumerate(first):
        storage = parameter.untyped_storage()
        alone = storage.nbytes() == parameter.nbytes
        groups.setdefault(0 if alone else storage.data_ptr(), []).append(row)
    for rows in groups.values():
        rows.sort(key=lambda row: first[row].storage_offset())
    return list(groups.values())
