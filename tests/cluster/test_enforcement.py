"""Enforcement mode and audit on real packets, changed while they flow."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.streams import Tally, steady_udp
from tests.cluster.convergence import converge

pytestmark = pytest.mark.cluster

PORT = 80
WEB = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop%s}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]
"""
AUDITED = ", annotations: {cilia.io/audit: 'true'}"
NO_STRANGERS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: no-strangers, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingressDeny: [{fromEndpoints: [{matchLabels: {app: stranger}}]}]
  enableDefaultDeny: {ingress: false}
"""


def make_pods(cluster: LocalCluster) -> tuple[Pod, Pod, Pod]:
    """A server on node1; a client there and a stranger on node2."""
    return (
        cluster.pod("node1", "shop", "web", {"app": "web"}),
        cluster.pod("node1", "shop", "client", {"app": "client"}),
        cluster.pod("node2", "shop", "stranger", {"app": "stranger"}),
    )


@asynccontextmanager
async def serving(web: Pod) -> AsyncIterator[None]:
    async with echoing([web], tcp=(PORT,), udp=(PORT,)):
        yield


async def reached(web: Pod, *clients: Pod) -> list[bool]:
    return list(await asyncio.gather(*(reaches_tcp(each, web.ipv4, PORT, seconds=0.9) for each in clients)))


def enforce(policies: Policies, *arguments: str) -> None:
    run = policies.cilia("policy", *arguments, "--wait")
    assert run.returncode == 0, run.stderr


async def flows_again(tally: Tally) -> bool:
    """Tell whether packets of a stream come through now."""
    before = tally.received
    await tally.wait_for_more(150)
    return tally.received > before + 10


@asynccontextmanager
async def audited_flows(cluster: LocalCluster, count: int) -> AsyncIterator[list[dict[str, object]]]:
    """Collect what ``cilia monitor`` tells of the first ``count`` audited flows of the block;
    complete after it.
    """
    words = ("--cluster", cluster.layout.name, "monitor", "--audited", "--count", str(count), "--timeout", "60")
    command = [sys.executable, "-m", "cilia.commands.cli", *words, "-o", "json"]
    monitor = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert monitor.stderr is not None
    assert "listening" in await asyncio.to_thread(monitor.stderr.readline)
    flows: list[dict[str, object]] = []
    try:
        yield flows
        output, errors = await asyncio.to_thread(monitor.communicate)
        assert monitor.returncode == 0, errors
        flows += [json.loads(line) for line in output.splitlines()]
    finally:
        monitor.kill()
        monitor.wait()


async def test_the_mode_changes_at_run_time_and_flows_under_way_obey(cluster: LocalCluster, policies: Policies) -> None:
    web, client, stranger = make_pods(cluster)
    async with serving(web), steady_udp(client, web.ipv4, PORT) as tally:
        assert await reached(web, client, stranger) == [True, True]
        enforce(policies, "mode", "always")
        assert await reached(web, client, stranger) == [False, False]
        assert not await flows_again(tally)
        policies.apply(WEB % "")
        assert await reached(web, client, stranger) == [False, False]  # egress is closed, too
        enforce(policies, "mode", "default")
        assert await reached(web, client, stranger) == [True, False]
        assert await flows_again(tally)
        policies.apply(NO_STRANGERS)
        enforce(policies, "mode", "never")
        assert await reached(web, client, stranger) == [True, True]
        policies.delete("CiliaEnforcement//cluster")
        assert await reached(web, client, stranger) == [True, False]


async def test_a_mode_has_a_history_and_can_be_rolled_back(cluster: LocalCluster, policies: Policies) -> None:
    web, client, _ = make_pods(cluster)
    async with serving(web):
        policies.apply(WEB % "")
        revision = json.loads(policies.cilia("policy", "history", "-o", "json").stdout)["rows"][0]["revision"]
        enforce(policies, "mode", "always")
        (row,) = json.loads(
            policies.cilia(
                "policy", "history", "--policy", "CiliaEnforcement//cluster", "--limit", "1", "-o", "json"
            ).stdout
        )["rows"]
        assert row["change"]["author"]
        assert '"always"' in row["change"]["steps"][0]["after"]
        assert policies.cilia("policy", "mode").stdout == "mode always, audit off\n"
        assert await reached(web, client) == [False]
        assert policies.cilia("policy", "rollback", str(revision), "--wait").returncode == 0
        assert await reached(web, client) == [True]
        assert policies.cilia("policy", "mode").stdout == "mode default, audit off\n"


async def test_what_the_cluster_would_drop_is_let_through_and_reported_while_it_is_audited(
    cluster: LocalCluster, policies: Policies
) -> None:
    web, client, stranger = make_pods(cluster)
    policies.apply(WEB % "")
    async with serving(web), steady_udp(stranger, web.ipv4, PORT) as tally:
        assert await reached(web, client, stranger) == [True, False]
        async with audited_flows(cluster, 2) as flows:
            enforce(policies, "audit", "on")
            assert await reached(web, client, stranger) == [True, True]
            assert await flows_again(tally)
        assert {(flow["verdict"], flow["source_endpoint"], flow["direction"]) for flow in flows} == {
            ("audit", "shop/stranger", "ingress")
        }
        enforce(policies, "audit", "off")
        assert not await flows_again(tally)
        assert await reached(web, client, stranger) == [True, False]


async def test_an_audited_policy_is_reported_and_the_others_are_enforced(
    cluster: LocalCluster, policies: Policies
) -> None:
    web, client, stranger = make_pods(cluster)
    async with serving(web), steady_udp(stranger, web.ipv4, PORT) as tally:
        policies.apply(WEB % AUDITED)
        async with audited_flows(cluster, 1) as flows:
            assert await reached(web, client, stranger) == [True, True]
        assert flows[0]["policy"] == "CiliumNetworkPolicy/shop/web"
        policies.apply(NO_STRANGERS)
        assert await reached(web, client, stranger) == [True, False]
        assert not await flows_again(tally)
        enforce(policies, "audit", "on", "shop/no-strangers")
        assert await reached(web, client, stranger) == [True, True]
        assert await flows_again(tally)
        enforce(policies, "audit", "off", "shop/web")  # isolates now, so there is nothing that the other's audit lifts
        assert await reached(web, client, stranger) == [True, False]
        assert not await flows_again(tally)


async def test_an_audited_endpoint_stays_so_over_a_restart_and_its_flows_end_with_the_audit(
    cluster: LocalCluster, policies: Policies
) -> None:
    web, client, stranger = make_pods(cluster)
    other = cluster.pod("node1", "shop", "other", {"app": "web"})
    policies.apply(WEB % "")
    async with serving(web), serving(other), steady_udp(stranger, web.ipv4, PORT) as tally:
        async with audited_flows(cluster, 1):
            assert policies.cilia("endpoint", "audit", "shop/web", "on").returncode == 0
            assert await reached(web, client, stranger) == [True, True]
        assert await reached(other, client, stranger) == [True, False]
        cluster.restart("agent/node1")
        await converge(cluster)
        assert json.loads(policies.cilia("endpoint", "get", "shop/web", "-o", "json").stdout)["audit"]
        assert await reached(web, client, stranger) == [True, True]
        assert await flows_again(tally)
        assert policies.cilia("endpoint", "audit", "shop/web", "off").returncode == 0
        assert not await flows_again(tally)
        assert await reached(web, client, stranger) == [True, False]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("{mode: sometimes}", "spec.mode", "sometimes"),
        ("{mode: always, audit: 'yes'}", "spec.audit", "yes"),
        ("{moode: always}", "spec.moode", "always"),
    ],
)
def test_a_mode_that_is_none_is_refused_by_field_and_value(
    cluster: LocalCluster, policies: Policies, text: str, field: str, value: str
) -> None:
    document = f"{{apiVersion: cilia.io/v1, kind: CiliaEnforcement, metadata: {{name: cluster}}, spec: {text}}}"
    run = policies.cilia("policy", "apply", "-f", "-", text=document)
    assert run.returncode == 1
    assert field in run.stderr
    assert value in run.stderr
