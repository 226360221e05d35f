"""Plain routing under an nftables rule set that allows what the policy does: so many ports, one
rule each, and no more.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from bench.ours import ports
from bench.plain import CLIENT, SERVER, address, plain_routing
from bench.traffic import Way
from laboratory.layout import Layout, netns_path


class Order(StrEnum):
    """Position of the rule that accepts what conntrack calls established."""

    STATE_FIRST = "state_first"
    """Rule about state first, as firewalls have it: an established packet meets one rule."""
    RULES_FIRST = "rules_first"
    """Rule about state last: an established packet meets as many as a new one."""


@contextmanager
def nftables(layout: Layout, count: int, order: Order) -> Iterator[Way]:
    """One node with two pods, and ``count`` rules between them, for the block."""
    with plain_routing(layout, f"nft-{count}-{order.replace('_', '-')}") as (node, way):
        command = ["nsenter", f"--net={netns_path(node.namespace)}", "nft", "-f", "-"]
        subprocess.run(command, input=rule_set(count, order), text=True, check=True)
        yield way


def rule_set(count: int, order: Order) -> str:
    """Return the rule set; the port that traffic uses has the rule in the middle."""
    state = ["ct state vmap { established : accept, related : accept, invalid : drop }"]
    pair = f"ip saddr {address(CLIENT)} ip daddr {address(SERVER)}"
    rules = [f"{pair} tcp dport {port} accept" for port in ports(count)]
    chain = "\n".join(state + rules if order is Order.STATE_FIRST else rules + state)
    return f"""
table inet filter {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
{chain}
  }}
}}
"""
