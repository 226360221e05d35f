"""Examples of the documentation for outsiders work as they stand there."""

import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from cilia import contracts
from laboratory.cluster import LocalCluster
from laboratory.layout import netns_path

pytestmark = pytest.mark.cluster

PAGE = (Path(__file__).parent.parent.parent / "docs" / "integration.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run_example(cluster: LocalCluster, source: str) -> "subprocess.Popen[str]":
    source = source.replace("nats://127.0.0.1:4222", cluster.layout.nats)
    source = source.replace("v1.local.", f"v1.{cluster.layout.name}.").replace('"local"', f'"{cluster.layout.name}"')
    command = ["nsenter", f"--net={netns_path(cluster.layout.hub)}", sys.executable, "-u", "-c", source]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    try:
        return process.stdout.readline()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_dozen_lines_show_flows(cluster: LocalCluster) -> None:
    one = cluster.pod("node1", "shop", "one", {})
    two = cluster.pod("node2", "shop", "two", {})
    pings = f"while :; do ping -c 1 -W 2 {two.ipv4}; sleep 0.1; done"  # the example doesn't say when it listens
    command = ["nsenter", f"--net={netns_path(one.network)}", "sh", "-c", pings]
    pinging = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        assert first_line(run_example(cluster, EXAMPLES[0])).startswith(f"forwarded {one.ipv4} -> {two.ipv4}")
    finally:
        os.killpg(pinging.pid, signal.SIGKILL)
        pinging.wait()


def test_policies_are_applied_refused_and_deleted_over_the_bus(cluster: LocalCluster) -> None:
    cluster.pod("node1", "shop", "web", {"app": "web"})
    applied, refused = run_example(cluster, EXAMPLES[1]).communicate(timeout=120)[0].splitlines()
    assert applied == "created CiliumNetworkPolicy/shop/from-the-bus True"
    assert refused.startswith("spec.endpointSelectr")


def test_a_table_is_followed(cluster: LocalCluster) -> None:
    pod = cluster.pod("node1", "shop", "followed", {})
    assert first_line(run_example(cluster, EXAMPLES[2])) == f"shop followed {pod.ipv4}\n"


def test_every_message_that_the_page_names_exists() -> None:
    modules = [import_module(found.name) for found in iter_modules(contracts.__path__, "cilia.contracts.")]
    known = {name for module in modules for name in vars(module)}
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]?[A-Za-z]*)`", PAGE))
    assert named <= known


@pytest.mark.parametrize("directory", ["examples/shop", "examples/live"])
def test_the_examples_are_accepted(cluster: LocalCluster, directory: str) -> None:
    from laboratory.policies import Policies

    run = Policies(cluster).cilia(
        "policy", "apply", "--dry-run", "-f", str(Path(__file__).parent.parent.parent / directory)
    )
    assert run.returncode == 0, run.stderr
