"""Bad input at the user's border: a clear message that names field and value, a non-zero exit, and
nothing changed.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cilia.contracts.agent import CreateEndpoint, EndpointReference, LocalEndpoint, MapContents, MapQuery
from cilia.contracts.messages import Message
from cilia.errors import Refused
from laboratory.cluster import LocalCluster
from laboratory.command_line import run_program
from laboratory.layout import Layout
from laboratory.namespaces import create_namespace, delete_namespace
from laboratory.policies import Policies
from laboratory.servers import free_port
from tests.cluster.convergence import read_etcd

pytestmark = pytest.mark.cluster

CNP = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n"
RULE = CNP + "  endpointSelector: {}\n  ingress:\n  - "
PORT = RULE + "toPorts: [{ports: [{port: %s}]}]"
NP = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n"

POLICIES = {
    "no YAML": ("{a: [", "document 1"),
    "nothing at all": ("", "policy"),
    "a list instead of an object": ("- a\n- b\n", "mapping"),
    "a key twice": (CNP + "  endpointSelector: {}\n  endpointSelector: {}\n", "endpointSelector"),
    "no kind": ("apiVersion: cilium.io/v2\nmetadata: {name: p}\n", "kind"),
    "another kind": ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n", "Pod"),
    "another version": (CNP.replace("io/v2", "io/v9"), "cilium.io/v9"),
    "no name": ("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {}\nspec: {}\n", "metadata.name"),
    "an impossible name": (CNP.replace("name: p", "name: P_"), "metadata.name"),
    "an impossible namespace": (CNP.replace("shop", "Shop"), "metadata.namespace"),
    "one name twice": (RULE + "fromEntities: [all]\n---\n" + RULE + "fromEntities: [all]\n", "twice"),
    "no rule": (CNP + "  endpointSelector: {}\n", "at least one"),
    "no selector": (CNP + "  ingress: [{}]\n", "endpointSelector"),
    "an unknown field": (RULE + "formEndpoints: [{}]", "spec.ingress[0].formEndpoints"),
    "a selector of the wrong type": (CNP + "  endpointSelector: 7\n  ingress: [{}]\n", "spec.endpointSelector"),
    "an unknown operator": (
        RULE + "fromEndpoints: [{matchExpressions: [{key: a, operator: Like, values: [b]}]}]",
        "matchExpressions[0].operator",
    ),
    "an operator without values": (
        RULE + "fromEndpoints: [{matchExpressions: [{key: a, operator: In}]}]",
        "matchExpressions[0]",
    ),
    "an unknown entity": (RULE + "fromEntities: [martians]", "martians"),
    "a port beyond 65535": (PORT % '"70000"', "70000"),
    "a negative port": (PORT % '"-1"', "-1"),
    "a hexadecimal port": (PORT % '"0x50"', "0x50"),
    "a port that is a list": (PORT % "[80]", "ports[0].port"),
    "an unknown protocol": (PORT % '"80", protocol: QUIC', "QUIC"),
    "a range that ends before it begins": (PORT % '"90", endPort: 80', "endPort"),
    "an address with too many bits": (RULE + 'fromCIDR: ["10.0.0.0/33"]', "10.0.0.0/33"),
    "an address that is none": (RULE + 'fromCIDR: ["10.0.0.300/8"]', "10.0.0.300/8"),
    "an exception outside of its range": (
        RULE + 'fromCIDRSet: [{cidr: "10.0.0.0/8", except: ["11.0.0.0/16"]}]',
        "11.0.0.0/16",
    ),
    "two kinds of peers at once": (RULE + 'fromCIDR: ["10.0.0.0/8"]\n    fromEntities: [all]', "spec.ingress[0]"),
    "HTTP rules, not enforced yet": (
        RULE + 'toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]',
        "not enforced yet",
    ),
    "names of the internet, not enforced yet": (
        CNP + '  endpointSelector: {}\n  egress: [{toFQDNs: [{matchName: "example.com"}]}]',
        "not enforced yet",
    ),
    "NetworkPolicy: an unknown policy type": (NP + "  podSelector: {}\n  policyTypes: [Sideways]\n", "Sideways"),
    "NetworkPolicy: a number as name of a label": (NP + "  podSelector: {matchLabels: {a: {}}}\n", "matchLabels"),
    "NetworkPolicy: an ipBlock without cidr": (
        NP + "  podSelector: {}\n  ingress: [{from: [{ipBlock: {}}]}]\n",
        "cidr",
    ),
    "the second document of two": (RULE + "fromEntities: [all]\n---\nkind: CiliumNetworkPolicy\n", "document 2"),
}

COMMANDS = {
    "an unknown command": (("dance",), 2, "dance"),
    "an unknown flag": (("status", "--fast"), 2, "--fast"),
    "an output format that isn't there": (("node", "list", "-o", "xml"), 2, "xml"),
    "an unknown endpoint": (("endpoint", "get", "shop/nobody"), 1, "shop/nobody"),
    "an unknown endpoint to delete": (("endpoint", "delete", "shop/nobody"), 1, "shop/nobody"),
    "an unknown endpoint to relabel": (("endpoint", "relabel", "shop/nobody", "-l", "a=b"), 1, "shop/nobody"),
    "an unknown node": (("map", "list", "--node", "node9"), 3, "node9"),
    "an unknown map": (("map", "get", "--node", "node1", "cilia_atlas"), 1, "cilia_atlas"),
    "an unknown identity": (("identity", "get", "77777"), 1, "77777"),
    "an identity that is no number": (("identity", "get", "many"), 2, "many"),
    "an unknown policy": (("policy", "get", "shop/none"), 1, "shop/none"),
    "an unknown policy to delete": (("policy", "delete", "shop/none"), 1, "shop/none"),
    "neither policy nor endpoint": (("policy", "get"), 2, "--endpoint"),
    "a file that isn't there": (("policy", "apply", "-f", "/nonexistent.yaml"), 2, "/nonexistent.yaml"),
    "a directory without policies": (("policy", "apply", "-f", "/proc/self/fd"), 2, "/proc/self/fd"),
    "no file": (("policy", "apply"), 2, "--file"),
    "a label that is none": (
        ("endpoint", "create", "--node", "node1", "shop/x", "--netns", "/x", "-l", "label"),
        2,
        "'label' is not key=value",
    ),
    "no such network namespace": (
        ("endpoint", "create", "--node", "node1", "shop/x", "--netns", "/run/netns/none"),
        1,
        "/run/netns/none",
    ),
    "a file as network namespace": (
        ("endpoint", "create", "--node", "node1", "shop/x", "--netns", "/etc/hostname"),
        1,
        "/etc/hostname",
    ),
    "a label with a semicolon": (
        ("endpoint", "create", "--node", "node1", "shop/x", "--netns", "/etc/hostname", "-l", "a=b;c"),
        1,
        "b;c",
    ),
    "a cluster that doesn't run": (("--cluster", "atlantis", "status"), 1, "atlantis"),
    "an impossible name of a cluster": (("cluster", "up", "--name", "A b"), 2, "A b"),
    "a cluster without nodes": (("cluster", "up", "--name", "none", "--nodes", "0"), 2, "nodes = 0"),
    "a cluster that isn't there to end": (("cluster", "down", "--name", "atlantis"), 1, "atlantis"),
    "a bus that doesn't answer": (("--nats", "nats://127.0.0.1:9", "node", "list"), 3, "127.0.0.1:9"),
}

SETTINGS = {
    "ipam: an unknown flag": ("ipam", ("--pool", "x"), 2, "--pool"),
    "ipam: a pool that is none": ("ipam", ("--pools", "default=10.0.0.0"), 2, "10.0.0.0"),
    "ipam: blocks larger than the pool": ("ipam", ("--pools", "default=10.0.0.0/24/16"), 2, "16"),
    "ipam: overlapping pools": ("ipam", ("--pools", "a=10.0.0.0/16/24,b=10.0.1.0/24/26"), 2, "10.0.1.0/24"),
    "ipam: staleness after no time": ("ipam", ("--stale-seconds", "0"), 2, "stale_seconds"),
    "ipam: staleness after no number": ("ipam", ("--stale-seconds", "long"), 2, "long"),
    "ipam: death before staleness": ("ipam", ("--dead-seconds", "29"), 2, "dead_seconds"),
    "identity: a cluster id out of range": ("identity", ("--cluster-id", "300"), 2, "300"),
    "policy: no concurrency": ("policy", ("--concurrency", "0"), 2, "concurrency"),
    "agent: no node": ("agent", ("--ipv4", "10.0.0.1"), 2, "node"),
    "agent: two values of a label": (
        "agent",
        ("--node", "n", "--ipv4", "10.0.0.1", "--labels", "a=1,a=2"),
        2,
        "a=1,a=2",
    ),
    "agent: an address that no device has": ("agent", ("--node", "n", "--ipv4", "10.99.0.1"), 1, "10.99.0.1"),
}


@pytest.fixture(scope="module")
def shared(shared_cluster: LocalCluster) -> LocalCluster:
    return shared_cluster


@pytest.fixture
def unchanged(shared: LocalCluster) -> Iterator[None]:
    """Policies, endpoints and identities in etcd are the same after the test."""
    import asyncio

    def state() -> set[tuple[str, bytes]]:
        records = asyncio.run(read_etcd(shared))
        kept = ("/policies/", "/endpoints/", "/identities/id/", "/ipam/")
        return {(each.key, each.value) for each in records if any(part in each.key for part in kept)}

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize("name", POLICIES)
def test_a_bad_policy_is_refused_whole(shared: LocalCluster, unchanged: None, name: str) -> None:
    text, expected = POLICIES[name]
    run = Policies(shared).cilia("policy", "apply", "-f", "-", text=text)
    assert run.returncode == 1, run
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bad_command_says_what_is_wrong(shared: LocalCluster, unchanged: None, name: str) -> None:
    arguments, code, expected = COMMANDS[name]
    run = Policies(shared).cilia(*arguments)
    assert (run.returncode, run.stdout) == (code, ""), run
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting_stops_the_process_at_once(name: str) -> None:
    service, arguments, code, expected = SETTINGS[name]
    run = start(service, *arguments)
    assert run.returncode == code, run
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("service", ["ipam", "identity", "policy"])
@pytest.mark.parametrize("missing", ["etcd", "nats"])
def test_a_missing_server_is_named(tmp_path: Path, service: str, missing: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    from laboratory.servers import start_nats

    with start_nats(tmp_path) as nats:
        url = nats.url if missing == "etcd" else f"nats://{address}"
        run = start(
            service, "--nats-urls", url, "--nats-connect-seconds", "0.5", "--etcd-endpoints", address,
            "--etcd-timeout-seconds", "0.5",
        )  # fmt: skip
    assert run.returncode == 3, run
    assert address in run.stderr
    assert "Traceback" not in run.stderr


def start(service: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a service that is expected to end by itself."""
    return run_program(f"services.{service}.__main__", *arguments)


def refusal(cluster: LocalCluster, call: str, arguments: Message, reply: type) -> str:
    """Return what the agent says no with."""
    with pytest.raises(Refused) as refused:
        cluster.agent_call("node1", call, arguments, reply)
    return str(refused.value)


def test_the_agents_own_api_names_what_is_wrong(shared: LocalCluster, unchanged: None) -> None:
    assert "4711" in refusal(shared, "endpoint-get", EndpointReference(id=4711), LocalEndpoint)  # type: ignore[arg-type]
    assert "atlas" in refusal(shared, "map-get", MapQuery("atlas"), MapContents)
    assert "fly" in refusal(shared, "fly", MapQuery("x"), MapContents)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("name", {"name": "Bad_Name!"}),
        ("name", {"name": ""}),
        ("namespace", {"namespace": "a/b"}),
        ("interface", {"interface": "a-name-that-is-too-long"}),
        ("interface", {"interface": "lo"}),
        ("named_ports", {"named_ports": (("web", "QUIC", 80),)}),
        ("named_ports", {"named_ports": (("web", "TCP", 70_000),)}),
        ("timeout_seconds", {"timeout_seconds": 0}),
    ],
)
def test_an_impossible_endpoint_is_refused_by_field(
    shared: LocalCluster, unchanged: None, field: str, change: dict[str, object]
) -> None:
    fields = {"namespace": "shop", "name": "x", "netns": "/proc/self/ns/net"} | change
    said = refusal(shared, "endpoint-create", CreateEndpoint(**fields), LocalEndpoint)  # type: ignore[arg-type]
    assert f"(field {field}:" in said


def test_a_pod_that_has_the_device_already_is_left_alone(shared: LocalCluster) -> None:
    name = f"{Layout(shared.state.name).namespace_prefix}has-eth0"
    create_namespace(name)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "eth0", "type", "bridge"], check=True)
        request = CreateEndpoint("shop", "has-eth0", f"/run/netns/{name}")
        assert "eth0" in refusal(shared, "endpoint-create", request, LocalEndpoint)
        links = subprocess.run(["ip", "-n", name, "-br", "link"], capture_output=True, text=True, check=True).stdout
        assert "eth0" in links
    finally:
        delete_namespace(name)


def test_a_name_that_is_taken_is_refused_and_the_first_stays(shared: LocalCluster) -> None:
    pod = shared.pod("node1", "shop", "taken", {})
    other = f"{Layout(shared.state.name).namespace_prefix}other"
    create_namespace(other)
    try:
        request = CreateEndpoint("shop", "taken", f"/run/netns/{other}")
        assert "shop/taken" in refusal(shared, "endpoint-create", request, LocalEndpoint)
        still = shared.agent_call("node1", "endpoint-get", pod.reference, LocalEndpoint)
        assert still.netns == pod.endpoint.netns
    finally:
        delete_namespace(other)
        shared.pods.remove(pod)
        pod.delete()


def test_a_cluster_of_a_name_in_use_is_refused_and_the_first_stays(shared: LocalCluster) -> None:
    run = Policies(shared).cilia("cluster", "up", "--name", shared.state.name)
    assert run.returncode == 1
    assert shared.state.name in run.stderr
    assert not any(shared.problems().values())


def test_there_are_enough_cases() -> None:
    assert len(POLICIES) + len(COMMANDS) + len(SETTINGS) >= 60
    assert os.geteuid() == 0
