"""Constants that the control plane has words of its own for are those that the programs know."""

from typing import Any

import pytest

from cilia.abi import defaults, maps, offsets, structs
from cilia.abi.codec import MapLayout
from cilia.abi.enums import Identity, IdentityScope, PolicyLimit, PolicyPrecedence, PolicyShape
from cilia.contracts import identities
from cilia.contracts.identities import Reserved
from cilia.policy.engine import mapstate, port_ranges


@pytest.mark.parametrize("identity", [one for one in Identity if one < Identity.ALLOCATED])
def test_reserved_identities_have_the_numbers_that_the_programs_know(identity: Identity) -> None:
    assert Reserved[identity.name].value == identity.value


def test_the_first_allocated_identity_is_the_one_from_which_the_programs_take_pods() -> None:
    assert Identity.ALLOCATED.value == identities.FIRST_ALLOCATED


@pytest.mark.parametrize(
    ("scope", "allocated"),
    [
        (IdentityScope.PREFIX, identities.prefix_range()),
        (IdentityScope.NODE, identities.node_range()),
        (0, identities.cluster_range(0)),
        (0, identities.cluster_range(255)),
    ],
)
def test_scopes_are_the_upper_bits_of_every_identity_in_their_range(scope: int, allocated: range) -> None:
    assert {allocated[0] >> IdentityScope.SHIFT, allocated[-1] >> IdentityScope.SHIFT} == {scope}


def test_a_plain_deny_is_the_greatest_precedence_that_fits() -> None:
    words = [mapstate.AUDITED_DEFAULT, mapstate.ALLOW, mapstate.AUDITED_DENY, mapstate.DENY]
    assert words == sorted(PolicyPrecedence)
    assert structs.PolicyEntry(mapstate.DENY, 0, 0, 0, 0).pack()[:4] == b"\xff" * 4
    with pytest.raises(Exception, match="format requires"):
        structs.PolicyEntry(mapstate.DENY + 1, 0, 0, 0, 0).pack()


def test_shapes_leave_room_for_every_number_of_port_bits() -> None:
    assert PolicyShape.PROTOCOL + port_ranges.PORT_BITS == PolicyShape.PORT
    assert PolicyShape.SHAPES == PolicyShape.PORT + 1


@pytest.mark.parametrize(
    ("layout", "entries"),
    [
        (maps.POLICY_SLOTS, PolicyLimit.SLOTS),
        (maps.POLICY, PolicyLimit.ENTRIES),
        (maps.ADDRESSES, PolicyLimit.ADDRESS_BUCKETS),
    ],
)
def test_limits_are_the_sizes_of_their_maps(layout: MapLayout[Any, Any], entries: int) -> None:
    assert layout.max_entries == entries


def test_offsets_name_the_bytes_that_are_packed() -> None:
    version = structs.PolicyVersion(0, 0, 0, 0, 0)
    slot = structs.PolicySlot(version, version._replace(revision=0x11111111), 0x22222222, 0x33333333).pack()
    for offset, expected in (
        (offsets.PolicySlotOffset.NEXT, b"\x11" * 4),
        (offsets.PolicySlotOffset.EPOCH, b"\x22" * 4),
        (offsets.PolicySlotOffset.IDENTITY, b"\x33" * 4),
    ):
        assert slot[offset : offset + 4] == expected


def test_a_policy_key_tells_slot_and_set_before_its_direction() -> None:
    key = structs.PolicyKey(0xAAAA, 0xBB, 1, 2, 3, 4, 5).pack()
    assert key[: offsets.PolicyKeyOffset.DIRECTION] == b"\xaa\xaa\xbb"
    assert key[offsets.PolicyKeyOffset.DIRECTION] == 1


def test_the_gateway_has_a_locally_administered_unicast_address() -> None:
    assert len(defaults.GATEWAY_MAC) == 6
    assert defaults.GATEWAY_MAC[0] & 0b11 == 0b10
