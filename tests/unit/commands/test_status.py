"""``cilia status``: every node's row, whatever the others do, and an exit code for scripts."""

import time

import msgspec
import pytest

from cilia.contracts.agent import AgentState, LoopName, LoopStatus, TableStatus
from cilia.contracts.tables import Staleness
from tests.unit.commands.fake_cluster import REFUSED, FakeCluster
from tests.unit.commands.samples import NODE1, NODE2, NODES, status


def test_a_healthy_cluster_is_a_row_a_node_and_exit_code_0(cluster: FakeCluster) -> None:
    cluster.tables["nodes"] = NODES
    cluster.answers |= {"node.node1.status": status(NODE1, ipv6="fd00:31::11"), "node.node2.status": status(NODE2)}
    run = cluster.run("status")
    assert (run.code, run.err) == (0, "")
    assert run.table == [
        ["NODE", "STATE", "ADDRESS", "POD CIDRS", "ENDPOINTS", "MEMORY", "UP", "TABLES"],
        [
            "node1",
            "ready",
            "172.31.0.11,fd00:31::11",
            "10.244.0.0/26,fd00:10::/64",
            "2/2",
            "61 MB",
            "62s",
            "2/2 complete",
        ],
        ["node2", "ready", "172.31.0.12", "10.244.0.64/26", "2/2", "61 MB", "62s", "2/2 complete"],
    ]
    assert [request.timeout for request in cluster.requests] == [3.0, 3.0]


@pytest.mark.parametrize("state", [AgentState.STARTING, AgentState.DEGRADED])
def test_a_node_that_is_not_ready_makes_it_exit_code_1(cluster: FakeCluster, state: AgentState) -> None:
    cluster.tables["nodes"] = NODES
    cluster.answers |= {"node.node1.status": status(NODE1), "node.node2.status": status(NODE2, state=state)}
    run = cluster.run("status")
    assert run.code == 1
    assert run.table[2][1] == state.value


def test_a_defence_that_a_kernel_has_no_means_for_is_said_to_be_off(cluster: FakeCluster) -> None:
    cluster.tables["nodes"] = NODES
    off = msgspec.structs.replace(status(NODE1), defences_off=("offloads are not compared",))
    cluster.answers |= {"node.node1.status": off, "node.node2.status": status(NODE2)}
    run = cluster.run("status")
    assert (run.code, run.err) == (0, "node1: defence off: offloads are not compared\n")


def test_a_node_that_does_not_answer_is_shown_beside_those_that_do(cluster: FakeCluster) -> None:
    cluster.tables["nodes"] = NODES
    cluster.answers["node.node2.status"] = status(NODE2)
    run = cluster.run("status")
    assert run.code == 1
    assert run.table[1][:2] == ["node1", "unreachable"]
    assert "node1 is unavailable: nobody serves 'status'" in run.table[1][2]
    assert run.table[2][1] == "ready"
    shown = cluster.run("status", "-o", "json").json
    assert shown["node1"] == "node1 is unavailable: nobody serves 'status'"
    assert shown["node2"]["state"] == "ready"


def test_a_stale_node_is_named_with_what_becomes_of_it(cluster: FakeCluster) -> None:
    cluster.tables |= {"nodes": NODES, "stale": {NODE1: Staleness(time.time_ns() - 40 * 10**9, 7200.0)}}
    cluster.answers["node.node2.status"] = status(NODE2)
    run = cluster.run("status")
    assert run.code == 1
    assert "node1 is stale: its agent is silent for 40s. What it has stays in force" in run.err
    assert "it is declared dead after 2h00m of silence" in run.err
    assert "'cilia node delete node1' removes it at once" in run.err


def test_a_node_that_refuses_is_shown_with_its_reason(cluster: FakeCluster) -> None:
    cluster.tables["nodes"] = NODES
    cluster.answers |= {"node.node1.status": REFUSED, "node.node2.status": status(NODE2)}
    run = cluster.run("status")
    assert run.code == 1
    assert "it makes no sense" in run.out


def test_nodes_are_asked_side_by_side(cluster: FakeCluster) -> None:
    cluster.tables["nodes"] = NODES
    cluster.latency_seconds = 2.9
    cluster.answers |= {"node.node1.status": status(NODE1), "node.node2.status": status(NODE2)}
    run = cluster.run("status")
    assert run.code == 0
    assert [request.subject for request in cluster.requests] == ["node.node1.status", "node.node2.status"]


def test_tables_that_are_not_complete_are_counted(cluster: FakeCluster) -> None:
    tables = (TableStatus("nodes", True, 1, 2, 7, 0), TableStatus("endpoints", False, 2, 0, 0, 1))
    cluster.tables["nodes"] = {NODE2: NODES[NODE2]}
    cluster.answers["node.node2.status"] = status(NODE2, tables=tables, endpoints_ready=1, state=AgentState.STARTING)
    run = cluster.run("status")
    assert run.table[1][-1] == "1/2 complete"
    assert run.table[1][4] == "1/2"


def test_json_has_every_field_of_each_agent(cluster: FakeCluster) -> None:
    cluster.tables["nodes"] = {NODE1: NODES[NODE1]}
    cluster.answers["node.node1.status"] = status(NODE1)
    shown = cluster.run("status", "-o", "json").json["node1"]
    assert shown["tables"][1] == {
        "name": "endpoints",
        "complete": True,
        "shards": 2,
        "rows": 3,
        "sequence": 9,
        "resyncs": 1,
    }
    assert shown["loops"][0]["name"] == "ipcache"


def test_what_an_agent_repaired_in_its_kernel_is_noted(cluster: FakeCluster) -> None:
    loops = (
        LoopStatus(LoopName.IPCACHE, 9, 0, 3, "other"),
        LoopStatus(LoopName.DRIFT, 9, 0, 2, "ipcache: 10.0.0.2 was gone"),
    )
    cluster.tables["nodes"] = {NODE1: NODES[NODE1]}
    cluster.answers["node.node1.status"] = status(NODE1, loops=loops)
    run = cluster.run("status")
    assert run.code == 0, "it is repaired"
    assert run.err == ("node1: 2 foreign changes in its kernel, repaired; the last: ipcache: 10.0.0.2 was gone\n")


def test_events_that_nobody_saw_are_noted_with_the_reason(cluster: FakeCluster) -> None:
    loops = (LoopStatus(LoopName.FLOWS, 0, 0, 42, "42 above the limit of their pod or node"),)
    cluster.tables["nodes"] = {NODE1: NODES[NODE1]}
    cluster.answers["node.node1.status"] = status(NODE1, loops=loops)
    run = cluster.run("status")
    assert run.code == 0, "nothing is broken"
    assert run.err == "node1: 42 events were not shown: 42 above the limit of their pod or node\n"


def test_endpoints_that_hold_their_share_of_flows_are_named(cluster: FakeCluster) -> None:
    loops = (LoopStatus(LoopName.FLOW_QUOTA, 900, 1, 0, "endpoint 7"),)
    cluster.tables["nodes"] = {NODE1: NODES[NODE1]}
    cluster.answers["node.node1.status"] = status(NODE1, loops=loops)
    run = cluster.run("status")
    assert run.code == 0, "nothing is broken"
    assert run.err == "node1: endpoint 7: has its share of flows, and new ones only as others end\n"
