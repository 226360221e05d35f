"""Results as commands print them: columns for people, JSON for programs, remarks beside."""

import argparse
import asyncio
import json

import msgspec
import pytest

from cilia.commands.arguments import BadNumber, BadPair, parse_count, parse_pair, parse_seconds
from cilia.commands.monitor import add_parser, describe_flow, is_wanted
from cilia.commands.output import (
    describe_staleness,
    format_age,
    format_time,
    note_if_slow,
    print_json,
    print_table,
)
from cilia.commands.policy.changes import (
    AmbiguousPolicy,
    NoSuchPolicy,
    describe_enforced_part,
    describe_realisation,
    find_key,
)
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.realisation import NodeRealised, Realised
from cilia.contracts.tables import Node, PolicyObject, Staleness
from tests.unit.commands import samples

DROP = msgspec.structs.replace(samples.DROP, protocol="TCP")


def monitor_arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["monitor", *words])


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "id"), [("a", 1), ("longer", 22)], empty="none")
    assert capsys.readouterr().out == "NAME    ID\na       1\nlonger  22\n"


def test_an_empty_table_prints_nothing_to_parse(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [], empty="no nodes")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "no nodes\n")


def test_rows_that_travel_as_arrays_are_printed_with_names(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    node = Node(name=NodeName("node1"), ipv4="172.31.0.11", pod_cidrs=("10.244.0.0/26",))
    print_json([node])
    (printed,) = json.loads(capfdbinary.readouterr().out)
    assert printed["name"] == "node1"
    assert printed["pod_cidrs"] == ["10.244.0.0/26"]


def test_json_of_numbered_rows_has_text_keys(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_json({Identity(300): ("k8s:app=web",)})
    assert json.loads(capfdbinary.readouterr().out) == {"300": ["k8s:app=web"]}


async def test_only_what_takes_long_is_announced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cilia.commands.output.PATIENCE_SECONDS", 0.01)
    with note_if_slow("quick"):
        pass
    with note_if_slow("slow"):
        await asyncio.sleep(0.05)
    assert capsys.readouterr().err == "slow\n"


def test_a_flow_is_one_line_with_both_ends_and_the_reason() -> None:
    line = describe_flow(DROP)
    expected = "node1: shop/web:40000 [300] -> shop/db:5432 [400] TCP DROPPED (ingress, policy-denied)"
    assert line.partition(" ")[2] == expected


def test_an_ipv6_address_is_set_apart_from_its_port() -> None:
    flow = msgspec.structs.replace(DROP, source="fd00::2", source_endpoint="", destination_endpoint="")
    assert "node1: [fd00::2]:40000 [300] -> " in describe_flow(flow)
    assert "node1: fd00::2 [300] -> " in describe_flow(msgspec.structs.replace(flow, protocol="icmpv6"))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), True),
        (("--drops",), True),
        (("--endpoint", "shop/web"), True),
        (("--endpoint", "shop/db"), True),
        (("--endpoint", "shop/cart"), False),
        (("--from", "shop/web"), True),
        (("--from", "shop/db"), False),
        (("--to", "shop/db"), True),
        (("--to", "shop/web"), False),
        (("--from", "shop/web", "--to", "shop/db", "--drops"), True),
        (("--from", "shop/web", "--to", "shop/cart"), False),
    ],
)
def test_monitor_shows_what_passes_every_filter(words: tuple[str, ...], wanted: bool) -> None:
    assert is_wanted(monitor_arguments(*words), DROP) is wanted


def test_what_was_realised_is_told_with_the_slowest_node() -> None:
    nodes = (NodeRealised(NodeName("node1"), 2, 3.0), NodeRealised(NodeName("node2"), 1, 7.25))
    text = describe_realisation(Realised(Revision(15), complete=True, nodes=nodes, storing_milliseconds=1.5))
    assert text == (
        "revision 15 is in force for 3 endpoints on 2 nodes: median 3.0 ms, 99th percentile 7.2 ms, "
        "slowest 7.2 ms (node2), of which 1.5 ms to store it"
    )


def test_stragglers_are_named() -> None:
    realised = Realised(Revision(15), complete=False, nodes=(), stragglers=(NodeName("node2"), NodeName("node3")))
    assert describe_realisation(realised) == "revision 15 is NOT in force yet on node2, node3"


def test_a_straggler_that_is_stale_is_said_to_be() -> None:
    realised = Realised(Revision(15), complete=False, nodes=(), stragglers=(NodeName("node2"), NodeName("node3")))
    text = describe_realisation(realised, {NodeName("node2"): Staleness(10**18)})
    assert text == f"revision 15 is NOT in force yet on node2 (stale since {format_time(10**18)}), node3"


def test_a_time_is_told_in_its_two_largest_units() -> None:
    assert [format_age(seconds) for seconds in (-1, 0, 59.9, 60, 3_599, 3_600, 90_061)] == [
        *("0s", "0s", "59s", "1m00s", "59m59s", "1h00m", "25h01m")
    ]


def test_a_node_that_is_never_removed_is_said_to_be() -> None:
    text = describe_staleness(NodeName("node2"), Staleness(0), 61 * 10**9)
    assert text.startswith("node2 is stale: its agent is silent for 1m01s. What it has stays in force; it is never")


def test_a_policy_is_found_by_any_name_that_is_its_own_alone() -> None:
    document = PolicyObject(kind="NetworkPolicy", namespace="shop", name="db", document="{}")
    known = {
        "NetworkPolicy/shop/db": document,
        "CiliumNetworkPolicy/shop/web": document,
        "NetworkPolicy/shop/web": document,
    }
    assert find_key(known, "shop/db") == find_key(known, "NetworkPolicy/shop/db") == "NetworkPolicy/shop/db"
    with pytest.raises(AmbiguousPolicy, match="which 'shop/web'"):
        find_key(known, "shop/web")
    with pytest.raises(NoSuchPolicy, match="no policy 'shop/cart'; there are: Cilium"):
        find_key(known, "shop/cart")


def test_arguments_are_read_or_refused() -> None:
    assert parse_pair("app=web=2") == ("app", "web=2")
    assert parse_pair("app=") == ("app", "")
    assert parse_count("3") == 3
    assert parse_seconds("0.5") == 0.5
    for text in ("", "app", "=web"):
        with pytest.raises(BadPair):
            parse_pair(text)
    for text in ("", "0", "-1", "1.5", "x"):
        with pytest.raises(BadNumber):
            parse_count(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("spec.egress[0].toPorts[0].rules", "spec.egress[0] allows nobody"),
        ("specs[2].ingress[1].fromNodes", "specs[2].ingress[1] allows nobody"),
        ("spec.egressDeny[0].toServices", "spec.egressDeny[0] denies everybody on its ports"),
        ("spec.nodeSelector", "its spec selects nobody"),
        ("spec.endpointSelector.matchLabels.node:a", "no pod has a label of this source"),
    ],
)
def test_what_is_left_of_a_rule_that_is_not_enforced_yet(path: str, expected: str) -> None:
    assert describe_enforced_part(path) == expected
