"""A directory of several hundred policies is one revision: planned, applied, watched, rolled back;
or refused whole.
"""

import json
from pathlib import Path

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from laboratory.processes import MAX_PAYLOAD_BYTES
from tests.cluster.convergence import differences

pytestmark = pytest.mark.cluster

MANY = 600
CLIENT = {"app": "client"}


def policy(number: int) -> str:
    """Let the client reach one port of each server: some 1.5 kB, most of it annotation."""
    spec = {
        "endpointSelector": {"matchLabels": {"role": "server"}},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": CLIENT}],
                "toPorts": [{"ports": [{"port": str(1000 + number), "protocol": "TCP"}]}],
            }
        ],
    }
    metadata = {"name": f"p{number}", "namespace": "shop", "annotations": {"why": f"port {number} " * 120}}
    body = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}
    return json.dumps(body)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a file for each policy."""
    for number in range(MANY):
        (tmp_path / f"p{number}.json").write_text(policy(number))
    return tmp_path


def stored(policies: Policies) -> int:
    run = policies.cilia("policy", "list", "-o", "json")
    assert run.returncode == 0, run.stderr
    return len(json.loads(run.stdout))


def history(policies: Policies) -> list[list[str]]:
    """Return the lines of the table, the newest first."""
    run = policies.cilia("policy", "history", "--limit", "1000")  # other modules have changed policies before
    assert run.returncode == 0, run.stderr
    return [line.split() for line in run.stdout.splitlines()[1:]]


async def test_hundreds_of_policies_are_one_revision_and_one_rollback(
    cluster: LocalCluster, policies: Policies, directory: Path
) -> None:
    cluster.pod("node1", "shop", "web", {"role": "server"})
    cluster.pod("node2", "shop", "client", CLIENT)
    policies.apply(policy(MANY))
    before = history(policies)
    dry = policies.cilia("policy", "apply", "-f", str(directory), "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("created ") == MANY
    assert stored(policies) == 1
    applied = policies.cilia("policy", "apply", "-f", str(directory), "--wait")
    assert applied.returncode == 0, applied.stderr
    newest, *older = history(policies)
    assert newest[-2:] == [str(MANY - 1), "more"]
    assert older == before
    assert stored(policies) == MANY + 1
    in_force = policies.cilia("policy", "get", "--endpoint", "shop/web")
    assert all(f" {1000 + number} " in in_force.stdout for number in range(0, MANY, 50))
    assert await differences(cluster) == []
    back = policies.cilia("policy", "rollback", before[0][0], "--wait")
    assert back.returncode == 0, back.stderr
    assert back.stdout.count("deleted ") == MANY
    assert stored(policies) == 1
    assert len(history(policies)) == len(before) + 2
    assert await differences(cluster) == []


def test_a_directory_of_hundreds_is_kept_by_a_watcher(policies: Policies, directory: Path) -> None:
    watch = ("policy", "watch", str(directory), "--once")
    synced = policies.cilia(*watch)
    assert synced.returncode == 0, synced.stderr
    assert synced.stdout.count("created ") == MANY
    for number in range(MANY // 2):
        (directory / f"p{number}.json").unlink()
    synced = policies.cilia(*watch)
    assert synced.returncode == 0, synced.stderr
    assert synced.stdout.count("deleted ") == MANY // 2
    assert stored(policies) == MANY // 2


def test_what_the_bus_does_not_take_is_refused_with_its_size(policies: Policies) -> None:
    text = "# " + "x" * MAX_PAYLOAD_BYTES + "\n" + policy(1)
    run = policies.cilia("policy", "apply", "-f", "-", text=text)
    assert run.returncode == 1
    assert f"bytes; the bus takes at most {MAX_PAYLOAD_BYTES:,} (max_payload of nats-server)" in run.stderr
    assert stored(policies) == 0
