"""Rows and what distributes them travel as arrays: appended to, never reordered."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from cilia.contracts.distribution import Beacon, Delta, DeltaBatch, SnapshotChunk, SnapshotRequest
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.tables import (
    Endpoint,
    EndpointKey,
    IdentityRow,
    Node,
    PolicyEntry,
    PolicyKey,
    PolicyObject,
    Pool,
    PrefixRow,
    Staleness,
    SubjectKey,
)
from tests.unit.contracts.drawing import ROWS, fields_where, is_required, sample_of, structs_of, values_of

every_row = pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)

LAYOUTS: dict[type[Struct], tuple[str, ...]] = {
    Node: ("name", "ipv4", "ipv6", "labels", "pod_cidrs"),
    Staleness: ("since_ns", "dead_after_seconds"),
    IdentityRow: ("labels",),
    PrefixRow: ("identity",),
    Endpoint: ("node", "id", "identity", "ipv4", "ipv6", "namespace", "name", "named_ports"),
    EndpointKey: ("node", "id"),
    Pool: ("cidr", "block_prefix"),
    PolicyKey: ("egress", "identity", "protocol", "port", "port_bits"),
    PolicyEntry: ("deny", "precedence", "cookie", "audit", "peer_set"),
    PolicyObject: (
        "kind",
        "namespace",
        "name",
        "document",
        "author",
        "applied_ns",
        "traceparent",
        "owner",
        "file",
        "prefixes",
    ),
    SubjectKey: ("subject", "key"),
    Beacon: ("epoch", "since", "sequence", "heads"),
    SnapshotRequest: ("epoch", "since", "at_least"),
    Delta: ("epoch", "previous", "sequence", "upserts", "removes", "part", "parts", "batch", "together"),
    DeltaBatch: ("deltas",),
    SnapshotChunk: ("epoch", "sequence", "since", "part", "last", "upserts", "removes"),
}
"""Order of the fields on the wire and in etcd; it may only grow at the end."""


@pytest.mark.parametrize("kind", LAYOUTS, ids=lambda kind: kind.__name__)
def test_the_order_of_fields_is_kept(kind: type[Struct]) -> None:
    layout = LAYOUTS[kind]
    assert kind.__struct_fields__[: len(layout)] == layout


def test_no_row_is_without_a_layout() -> None:
    assert [kind.__name__ for kind in ROWS if kind not in LAYOUTS] == []


@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(row=st.one_of(*map(structs_of, ROWS)))
def test_any_row_is_the_same_after_its_way(row: Struct) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=type(row)) == row


@every_row
def test_a_row_is_the_same_after_its_way_by_msgpack_and_by_json(kind: type[Struct]) -> None:
    row = sample_of(kind)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=kind) == row
    assert msgspec.json.decode(msgspec.json.encode(row), type=kind) == row


@every_row
def test_a_row_of_an_older_writer_takes_defaults_for_what_was_appended(kind: type[Struct]) -> None:
    row = sample_of(kind)
    values = as_array(row)
    least = len(list(fields_where(kind, is_required)))
    for length in range(least, len(values)):
        found = msgspec.msgpack.decode(msgspec.msgpack.encode(values[:length]), type=kind)
        assert as_array(found)[:length] == values[:length]
        for field in fields(kind)[length:]:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            assert getattr(found, field.name) == default


@every_row
def test_a_row_of_a_newer_writer_is_read_without_what_was_appended(kind: type[Struct]) -> None:
    row = sample_of(kind)
    longer = [*as_array(row), "appended", {"later": 1}]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(longer), type=kind) == row


@every_row
def test_a_required_field_is_never_after_one_with_a_default(kind: type[Struct]) -> None:
    required = [is_required(field) for field in fields(kind)]
    assert required == sorted(required, reverse=True)


@every_row
def test_a_row_that_lacks_a_required_field_is_refused(kind: type[Struct]) -> None:
    values = as_array(sample_of(kind))
    least = len(list(fields_where(kind, is_required)))
    if least:
        with pytest.raises(msgspec.ValidationError, match=f"Expected `array` of at least length {least}"):
            msgspec.msgpack.decode(msgspec.msgpack.encode(values[: least - 1]), type=kind)


def test_deltas_and_snapshots_carry_keys_and_rows_of_their_table() -> None:
    key, row = sample_of(EndpointKey), sample_of(Endpoint)
    delta = Delta(1, 5, 6, ((key, row),), (key,), together=True)
    for kind, message in (
        (Delta[EndpointKey, Endpoint], delta),
        (DeltaBatch[EndpointKey, Endpoint], DeltaBatch((("7", delta),))),
        (SnapshotChunk[EndpointKey, Endpoint], SnapshotChunk(1, 6, 0, 0, True, ((key, row),), (key,))),
    ):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=kind) == message


@given(heads=values_of(dict[str, int]))
def test_a_beacon_names_the_heads_of_shards(heads: dict[str, int]) -> None:
    beacon = Beacon(1, 5, 9, heads)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(beacon), type=Beacon) == beacon


def test_keys_are_hashed_by_value() -> None:
    def key(port: int) -> SubjectKey:
        return SubjectKey(Identity(300), PolicyKey(True, Identity(400), 6, port, 16))

    assert len({key(80), key(80), key(81)}) == 2
    assert hash(EndpointKey(NodeName("n"), EndpointId(1))) == hash(EndpointKey(NodeName("n"), EndpointId(1)))


@pytest.mark.parametrize(
    ("blocks", "gateways"),
    [
        ((), ()),
        (("10.244.0.0/26",), ("10.244.0.1",)),
        (("10.244.0.0/26", "10.244.9.64/26"), ("10.244.0.1",)),
        (("fd00:10::/64", "10.244.0.64/26"), ("fd00:10::1", "10.244.0.65")),
        (("10.244.0.64/26", "fd00:10::/64", "fd00:11::/64"), ("10.244.0.65", "fd00:10::1")),
    ],
)
def test_the_gateway_is_the_first_usable_address_of_the_first_block_of_a_family(
    blocks: tuple[str, ...], gateways: tuple[str, ...]
) -> None:
    assert Node(NodeName("n1"), "172.31.0.1", pod_cidrs=blocks).gateways == gateways


def as_array(row: Struct) -> list[Any]:
    """Return a row's fields in the order in which they travel."""
    return [getattr(row, name) for name in row.__struct_fields__]
