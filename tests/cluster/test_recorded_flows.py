"""Real packets are recorded, and what is concluded from the record is what packets then meet."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from laboratory.cluster import LocalCluster
from laboratory.connectivity import HTTP, OTHER, reaches, serving
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.wait import block_until

pytestmark = pytest.mark.cluster

NAMESPACE = "recorded"
CLOSED = f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: db, namespace: {NAMESPACE}}}
spec:
  endpointSelector: {{matchLabels: {{app: db}}}}
  ingress:
  - fromEndpoints: [{{matchLabels: {{app: web}}}}]
    toPorts: [{{ports: [{{port: "{HTTP}", protocol: TCP}}]}}]
  - fromEndpoints: [{{matchLabels: {{app: nobody}}}}]
"""

Json = Any


def ask(policies: Policies, *arguments: str, text: str = "", code: int = 0) -> Json:
    run = policies.cilia(*arguments, "-o", "json", text=text)
    assert run.returncode == code, run.stderr
    return json.loads(run.stdout)


def recorded(policies: Policies, *arguments: str) -> dict[tuple[str, str, int, str], Json]:
    found = ask(policies, "flows", "--namespace", NAMESPACE, *arguments)
    return {
        (flow["source"]["workload"], flow["destination"]["workload"], flow["port"], flow["verdict"]): flow
        for flow in found
        if not flow["egress"]
    }


def wait_for(policies: Policies, *wanted: tuple[str, str, int, str]) -> dict[tuple[str, str, int, str], Json]:
    block_until(lambda: set(wanted) <= recorded(policies).keys())
    return recorded(policies)


def make_pods(cluster: LocalCluster) -> list[Pod]:
    return [
        cluster.pod("node1", NAMESPACE, "web", {"app": "web"}),
        cluster.pod("node1", NAMESPACE, "db", {"app": "db"}),
        cluster.pod("node2", NAMESPACE, "bench", {"app": "bench"}),
    ]


async def reach(*attempts: tuple[Pod, Pod, int]) -> list[bool]:
    return [await reaches(source, target.ipv4, "tcp", port) for source, target, port in attempts]


def name(pod: Pod) -> str:
    return f"{NAMESPACE}/{pod.name.rpartition('/')[2]}"


async def test_a_policy_goes_from_what_if_by_shadow_into_force_as_the_record_foretold(
    cluster: LocalCluster, policies: Policies, tmp_path: Path
) -> None:
    web, db, bench = make_pods(cluster)
    ways = [(web, db, HTTP), (bench, db, HTTP), (web, db, OTHER)]
    key = f"CiliumNetworkPolicy/{NAMESPACE}/db"
    async with serving([web, db, bench]):
        assert await reach(*ways) == [True, True, True]
        seen = [(name(source), name(target), port, "allowed") for source, target, port in ways]
        found = wait_for(policies, *seen)
        assert all(found[each]["count"] == 1 for each in seen)
        assert "k8s:app=db" in found[seen[0]]["destination"]["labels"]
        assert f"{db.ipv4}/32" in found[seen[0]]["destination"]["prefixes"]

        file = tmp_path / "db.yaml"
        file.write_text(CLOSED)
        foretold = ask(policies, "policy", "diff", "-f", str(file), code=1)
        denied = {(change["source"], change["port"]) for change in foretold["newly_denied"]}
        assert denied == {(name(bench), HTTP), (name(web), OTHER)}
        assert foretold["newly_allowed"] == []

        run = policies.cilia("policy", "apply", "-f", str(file), "--shadow", "--wait")
        assert run.returncode == 0, run.stderr
        assert await reach(*ways) == [True, True, True]
        shadow = ask(policies, "policy", "shadow", key)
        assert {(change["source"], change["port"]) for change in shadow[key]["newly_denied"]} == denied
        with following(cluster) as events:
            assert (await reach((bench, db, HTTP)))[0]
            lines = (json.loads(line) for line in events.stdout or ())
            event = next(each for each in lines if each["flow"]["source"].get("workload") == name(bench))
            events.kill()
        assert (event["allowed"], event["would_be"], event["policies"]) == (True, False, [key])

        run = policies.cilia("policy", "promote", f"{NAMESPACE}/db", "--wait")
        assert run.returncode == 0, run.stderr
        assert await reach(*ways) == [True, False, False]
        found = wait_for(policies, *((name(source), name(target), port, "denied") for source, target, port in ways[1:]))
        unused = ask(policies, "policy", "unused")
        assert [item["rule"] for item in unused["unused"] if item["policy"] == key] == ["spec.ingress[1]"]
        assert [item["rule"] for item in unused["used"] if item["policy"] == key] == ["spec.ingress[0]"]
        opened = ask(policies, "policy", "diff", "--delete", f"{NAMESPACE}/db", "--fail-on", "never")
        assert {(change["source"], change["port"]) for change in opened["newly_allowed"]} == denied


async def test_generated_policies_keep_what_was_seen_and_close_the_rest(
    cluster: LocalCluster, policies: Policies
) -> None:
    web, db, bench = make_pods(cluster)
    async with serving([web, db, bench]):
        assert await reach((web, db, HTTP), (db, bench, OTHER)) == [True, True]
        wait_for(policies, (name(web), name(db), HTTP, "allowed"), (name(db), name(bench), OTHER, "allowed"))
        run = policies.cilia("policy", "generate", "--from-flows", "--workload", name(db))
        assert run.returncode == 0, run.stderr
        policies.apply(run.stdout)
        assert await reach((web, db, HTTP), (db, bench, OTHER)) == [True, True]
        assert await reach((db, bench, HTTP), (db, web, OTHER)) == [False, False]


async def test_the_record_survives_its_recorder(cluster: LocalCluster, policies: Policies) -> None:
    web, db, _ = make_pods(cluster)
    async with serving([web, db]):
        await reach((web, db, 7777))
        wait_for(policies, (name(web), name(db), 7777, "allowed"))
        cluster.restart("service/recorder-1")
        wait_for(policies, (name(web), name(db), 7777, "allowed"))


def following(cluster: LocalCluster) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cilia.commands.cli", "--cluster", cluster.layout.name]
    command += ["policy", "shadow", "--follow", "-o", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "listening" in (process.stderr.readline() if process.stderr else "")
    return process
