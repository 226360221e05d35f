"""CIDRs of rules.

A prefix selects the identities that stand for it or for a part of it; pods never have one.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Final

from cilia.policy.engine.rules import (
    CIDR,
    CIDR_GROUP,
    GROUP_NAME,
    Block,
    Operator,
    Prefix,
    PrefixGroup,
    Requirement,
    Selector,
    within,
)
from cilia.policy.language.documents import Field
from cilia.policy.language.selectors import read_selector

_LENGTH: Final = re.compile(r"[0-9]{1,3}")


def read_prefix(at: Field, *, bare: bool = True) -> Prefix:
    """Read ``address/length``; bits behind the length are cut off.

    ``bare``: an address alone is allowed.
    """
    text = at.text()
    address, slash, length = text.partition("/")
    if "%" in text:
        at.refuse("a zone has no meaning in a policy")
    if (slash and not _LENGTH.fullmatch(length)) or not (slash or bare):
        at.refuse("is no CIDR; one looks like 10.0.0.0/8")
    try:
        ip_address(address)
        return ip_network(text, strict=False)
    except ValueError:
        at.refuse("is no CIDR; one looks like 10.0.0.0/8")


def select_prefix(prefix: Prefix, excepts: tuple[Prefix, ...] = ()) -> Selector:
    """Return the selector of addresses outside of the cluster."""
    holes = tuple(Requirement(CIDR, str(hole), Operator.ABSENT) for hole in excepts)
    return Selector((Requirement(CIDR, str(prefix), Operator.EXISTS), *holes))


def read_cidr_set(at: Field) -> Selector:
    """Read an element of ``fromCIDRSet`` or ``toCIDRSet``."""
    body = at.mapping().only("cidr", "except", "cidrGroupRef", "cidrGroupSelector")
    kinds = [item for key, item in body if key != "except"]
    if len(kinds) != 1:
        at.refuse("needs exactly one of cidr, cidrGroupRef and cidrGroupSelector")
    if "cidr" not in body:
        excepts = tuple(read_prefix(item, bare=False) for item in _items(body.get("except")))
        return _select_group(kinds[0], by_name="cidrGroupRef" in body, holes=excepts)
    cidr = read_prefix(body.require("cidr"), bare=False)
    return select_prefix(cidr, _excepts(body.get("except"), cidr))


GROUP: Final = "io.cilium.policy.cidrgroup"
"""Key that prefixes of any group bear."""


def _items(at: Field | None) -> Iterable[Field]:
    return at.items() if at is not None else ()


def _select_group(at: Field, *, by_name: bool, holes: tuple[Prefix, ...]) -> Selector:
    """Return the selector of what lies in the groups of a name, or with the labels, but not in
    ``holes``.
    """
    if by_name:
        group = Selector((Requirement(CIDR_GROUP, GROUP_NAME + at.text(), Operator.EXISTS),))
    else:
        group = read_selector(at, _group_key)
    absent = (Requirement(CIDR, str(hole), Operator.ABSENT) for hole in holes)
    return Selector((Requirement(CIDR_GROUP, GROUP, Operator.EXISTS), *group.requirements, *absent))


def _group_key(_: Field, key: str) -> tuple[str, str]:
    return CIDR_GROUP, key


def read_prefix_group(spec: Field, name: str, labels: Field | None) -> PrefixGroup:
    """Read the prefixes of a CiliumCIDRGroup."""
    items = spec.mapping().only("externalCIDRs").require("externalCIDRs").items()
    own = tuple((key, item.text()) for key, item in labels.mapping()) if labels is not None else ()
    return PrefixGroup(frozenset(map(read_prefix, items)), ((GROUP, ""), (GROUP_NAME + name, ""), *own))


def _excepts(at: Field | None, cidr: Prefix) -> tuple[Prefix, ...]:
    holes = []
    for item in at.items() if at is not None else ():
        hole = read_prefix(item, bare=False)
        if not within(hole, cidr):
            item.refuse(f"lies outside of {cidr}")
        holes.append(hole)
    return tuple(dict.fromkeys(holes))


def read_ip_block(at: Field) -> Selector:
    """Read ``ipBlock``, which counts pods' addresses as well; an exception must be a true part of
    the block.
    """
    body = at.mapping().only("cidr", "except")
    cidr = read_prefix(body.require("cidr"), bare=False)
    excepts = _excepts(body.get("except"), cidr)
    if cidr in excepts:
        body.require("except").refuse(f"leaves nothing of {cidr}")
    return Selector(block=Block(cidr, excepts))
