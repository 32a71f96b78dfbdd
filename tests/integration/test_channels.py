"""Both ends of the wire together: what is written is read, lost messages do no harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.sharing.channel import ClientChannel
from fedfuse.codec import Channel, Parcel, Quantize, RowCodec
from fedfuse.codec.channel import cfd, delta, float16, top_k
from fedfuse.errors import KnowledgeError
from fedfuse.testing.fusion import example_bank
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.wire.encode import Expectation
from server.transport.channel import ServerChannel, distinct_bytes

K, M, C = 3, 9, 4
IDS = (0, 1, 2)
EXPECT = Expectation(IDS, M, C)


def bank_of(seed=0, **changes):
    bank = replace(example_bank(K, M, C), client_ids=torch.arange(K))
    noise = torch.randn(K, M, C, generator=torch.Generator().manual_seed(seed))
    bank = replace(bank, logits=bank.logits + noise, mask=None, confidence=None)
    bank = replace(bank, class_distribution=None)
    return replace(bank, **changes)


def teachers_of(targets, **more):
    return Teachers(torch.arange(K), targets, Space.LOGITS, **more)


def up(client, server, bank, memory):
    """Send a bank, cohort by cohort, as a node with one client after the other does."""
    parcels = []
    for row, client_id in enumerate(IDS):
        sent, remember = client.write(bank.rows(torch.tensor([row])), memory)
        memory[client_id].update(remember.get(client_id, {}))
        parcels.append(sent)
    together = Parcel.stack(parcels)
    return server.read(KnowledgeBank, together.arrays(), EXPECT), together


@pytest.mark.parametrize("channel", [delta(), float16(), cfd(), top_k(k=4, delta=True)])
def test_every_round_arrives_and_is_counted_exactly(channel):
    client, server = ClientChannel(channel), ServerChannel(channel)
    memory = {i: {} for i in IDS}
    for round_ in range(3):
        bank = bank_of(seed=min(round_, 1))
        arrived, parcel = up(client, server, bank, memory)
        alone, _ = RowCodec(channel.up.code).decode(
            RowCodec(channel.up.code).encode(bank.logits, Space.LOGITS, {})[0], {}
        )
        assert torch.equal(arrived.logits, alone)
        assert torch.equal(arrived.num_examples, bank.num_examples)
        counted = [
            a.nbytes
            for name, a in parcel.arrays().items()
            if not name.startswith("lengths/") and name not in ("client_ids", "space")
        ]
        assert parcel.num_bytes == sum(counted)


def test_a_masked_bank_sends_its_own_rows_and_one_bit_a_sample():
    mask = torch.arange(M) < torch.tensor([[2], [0], [M]])
    bank = bank_of(mask=mask)
    parcel, _ = ClientChannel().write(bank, {i: {} for i in IDS})
    rows = (2 + 0 + M) * C * 4
    assert parcel.num_bytes == rows + K * 2 + K * 8  # bits of 9 samples; the numbers of examples
    arrived = ServerChannel().read(KnowledgeBank, parcel.arrays(), EXPECT)
    assert torch.equal(arrived.mask, mask)
    assert torch.equal(arrived.logits[mask], bank.logits[mask])
    assert bool((arrived.logits[~mask] == 0).all())


def test_an_upload_that_was_lost_is_followed_by_a_whole_one():
    client, server = ClientChannel(delta()), ServerChannel(delta())
    memory = {i: {} for i in IDS}
    up(client, server, bank_of(0), memory)
    for row, client_id in enumerate(IDS):  # the second round never arrives
        _, remember = client.write(bank_of(1).rows(torch.tensor([row])), memory)
        memory[client_id].update(remember[client_id])
    with pytest.raises(KnowledgeError, match="builds on another one"):
        up(client, server, bank_of(2), {i: dict(memory[i]) for i in IDS})
    client.acknowledged.update(zip(IDS, server.acknowledged(IDS), strict=True))
    arrived, _ = up(client, server, bank_of(2), memory)
    assert torch.equal(arrived.logits, bank_of(2).logits)


def test_teachers_that_were_not_confirmed_come_whole_the_next_time():
    client, server = ClientChannel(delta()), ServerChannel(delta())
    memory = {i: {} for i in IDS}
    first = server.write(teachers_of(bank_of(0).logits), 1)
    _, remember = client.read(first, memory, torch.arange(M), M)
    for client_id in IDS:
        memory[client_id].update(remember[client_id])
    second = server.write(teachers_of(bank_of(0).logits), 1)
    assert second.num_bytes < first.num_bytes
    server.lost([1])  # client 1 has not answered, whether or not it has read
    third = server.write(teachers_of(bank_of(1).logits), 1)
    lone = torch.tensor([1])
    teachers, _ = client.read(
        Parcel.read(third.rows(lone).arrays(), Expectation((1,), M, C)), memory, torch.arange(M), M
    )
    assert torch.equal(teachers.targets[0], bank_of(1).logits[1])


def test_a_restored_server_goes_on_where_it_was():
    client, server = ClientChannel(delta()), ServerChannel(delta())
    memory = {i: {} for i in IDS}
    up(client, server, bank_of(0), memory)
    server.write(teachers_of(bank_of(0).logits), 1)
    again = ServerChannel(delta())
    again.restore(server.state())
    arrived, _ = up(client, again, bank_of(1), memory)
    assert torch.equal(arrived.logits, bank_of(1).logits)
    assert again.write(teachers_of(bank_of(0).logits), 1).num_bytes == K * (4 + 2)


def test_what_is_common_to_all_is_counted_once_where_it_is_broadcast():
    common = torch.randn(1, M, C).expand(K, M, C).contiguous()
    assert distinct_bytes(teachers_of(common)) == M * C * 4
    assert distinct_bytes(teachers_of(bank_of().logits)) == K * M * C * 4
    encoded = ServerChannel(Channel(down=RowCodec(Quantize(1)))).write(teachers_of(common), 1)
    assert encoded.distinct_bytes * K == encoded.num_bytes


def test_samples_that_do_not_count_do_not_come_down():
    weight = (torch.arange(M) > 3).float().expand(K, M)
    parcel = ServerChannel().write(teachers_of(bank_of().logits, sample_weight=weight), 1)
    assert parcel.num_bytes == K * ((M - 4) * C * 4 + 2)
    teachers, _ = ClientChannel().read(parcel, {i: {} for i in IDS}, torch.arange(M), M)
    assert torch.equal(teachers.sample_weight, weight)
    half = ServerChannel().write(teachers_of(bank_of().logits, sample_weight=weight / 2), 1)
    teachers, _ = ClientChannel().read(half, {i: {} for i in IDS}, torch.arange(M), M)
    assert torch.equal(teachers.sample_weight, weight / 2)


def spoil(name, value):
    def do(arrays):
        arrays[name] = value

    return do


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (spoil("encoded/symbols", np.zeros(5, np.uint8)), "elements in 'symbols'"),
        (spoil("encoded/symbols", np.zeros((5, 1), np.uint8)), "no flat array"),
        (spoil("lengths/symbols", np.array([-1, 2, 2])), "elements in 'symbols'"),
        (spoil("lengths/symbols", np.array([1, 2])), "wrong number of clients"),
        (spoil("client_ids", np.array([0, 1, 7])), "not from the clients"),
        (spoil("mask_bits", np.zeros((K, 9), np.uint8)), "wrong number of"),
        (spoil("surprise", np.zeros(3)), "an unknown array"),
        (spoil("space", np.frombuffer(b"pickles", np.uint8)), "an unknown space"),
        (lambda arrays: arrays.pop("num_examples"), "no 'num_examples'"),
        (spoil("encoded/symbols", np.full(K * M * C * 4, 255, np.uint8)), "not finite"),
    ],
)
def test_damage_is_named(change, says):
    mask = torch.ones(K, M, dtype=torch.bool)
    parcel, _ = ClientChannel().write(bank_of(mask=mask), {i: {} for i in IDS})
    arrays = parcel.arrays()
    change(arrays)
    with pytest.raises(KnowledgeError, match=says):
        ServerChannel().read(KnowledgeBank, arrays, EXPECT)
