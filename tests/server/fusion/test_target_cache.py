"""SCARLET's cache between a server and clients that may miss rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clients.sharing.channel import CACHE, ClientChannel
from fedfuse.codec import Channel
from fedfuse.errors import KnowledgeError
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds, SignalCache
from fedfuse.select.cache import Signal
from fedfuse.types import PublicSet, Space, Teachers
from server.fusion.target_cache import TargetCache
from server.transport.channel import ServerChannel

K, P, C = 3, 4, 2
INDEX = torch.arange(P)


def make(duration=2):
    public = PublicSet(np.zeros((P, 1), np.float32), None, "test")
    rounds = PublicRounds(All(), public, Streams(0))
    cache = TargetCache(SignalCache(duration), rounds, K)
    return cache, ServerChannel(Channel(), cache)


def fused(value, ids=(0, 1, 2), weight=None):
    """One target for all: every number is ``value``."""
    targets = torch.full((len(ids), P, C), float(value))
    if weight is not None:
        weight = torch.tensor(weight).float().expand(len(ids), P).contiguous()
    return Teachers(torch.tensor(ids), targets, Space.LOGITS, weight)


def learn(client, server, cache, teachers, round_, memory):
    """One way down: what each client learns, and the parcel it came in."""
    whole = cache.complete(teachers, round_)
    parcel = server.write(whole, round_)
    got, news = client.read(parcel, memory, INDEX, P)
    for client_id, entries in news.items():
        memory[client_id].update(entries)
    assert torch.equal(got.targets[got.sample_weight > 0], whole.targets[whole.sample_weight > 0])
    assert torch.equal(got.sample_weight, whole.sample_weight)
    return got, parcel


def test_a_round_by_hand():
    cache, server = make(duration=2)
    client, memory = ClientChannel(), {i: {} for i in range(K)}
    assert server.request(1, range(K)).tolist() == [0b1111]
    # the last sample is answered by nobody
    got, parcel = learn(client, server, cache, fused(1, weight=[1, 1, 1, 0]), 1, memory)
    assert parcel.extras["signals"][0].tolist() == [1, 1, 1, Signal.LEFT_OUT]
    # 3 rows of 2 floats, a byte a sample of signals and a bit a sample of the mask, three clients
    assert parcel.num_bytes == K * (3 * C * 4 + P + 1)
    assert parcel.distinct_bytes == 3 * C * 4 + P + 1
    # In the next round three targets still serve; only the last sample is asked for.
    assert server.request(2, range(K)).tolist() == [0b1000]
    got, parcel = learn(client, server, cache, fused(2, weight=[0, 0, 0, 1]), 2, memory)
    assert got.targets[0, :, 0].tolist() == [1, 1, 1, 2]
    assert parcel.extras["signals"][0].tolist() == [0, 0, 0, Signal.NEWLY_CACHED]
    # In the third the three have expired.
    assert server.request(3, range(K)).tolist() == [0b0111]
    got, parcel = learn(client, server, cache, fused(3, weight=[1, 1, 1, 0]), 3, memory)
    assert got.targets[0, :, 0].tolist() == [3, 3, 3, 2]
    assert parcel.extras["signals"][0].tolist() == [2, 2, 2, 0]


def test_who_missed_a_round_gets_what_it_lacks():
    cache, server = make(duration=9)
    client, memory = ClientChannel(), {i: {} for i in range(K)}
    learn(client, server, cache, fused(1, ids=(0, 1), weight=[1, 1, 0, 0]), 1, memory)
    got, parcel = learn(client, server, cache, fused(2, weight=[0, 0, 1, 1]), 2, memory)
    assert parcel.encoded.mask.tolist() == [[False, False, True, True]] * 2 + [[True] * 4]
    assert got.targets[2, :, 0].tolist() == [1, 1, 2, 2]


def test_who_did_not_confirm_gets_all_again():
    cache, server = make(duration=9)
    client, memory = ClientChannel(), {i: {} for i in range(K)}
    learn(client, server, cache, fused(1), 1, memory)
    server.lost([1])
    del memory[1][CACHE]
    _, parcel = learn(client, server, cache, fused(0, weight=[0, 0, 0, 0]), 2, memory)
    assert parcel.encoded.mask.any(dim=1).tolist() == [False, True, False]


def test_a_restored_cache_goes_on():
    cache, _ = make()
    cache.complete(fused(1), 1)
    cache.send(torch.arange(K), 1)
    again, _ = make()
    again.restore(cache.state())
    assert torch.equal(again.request(2), cache.request(2))
    assert not bool(again.send(torch.arange(K), 1)[0].any())
    assert again.complete(fused(0, weight=[0] * P), 2).targets.unique().tolist() == [1]


def test_targets_of_ones_own_cannot_be_shared():
    cache, _ = make()
    teachers = fused(1)
    teachers.targets[1] += 1
    with pytest.raises(KnowledgeError, match="one target for all"):
        cache.complete(teachers, 1)
