"""The cases of the Kubernetes project's own policy tests, on real traffic between pods of a
cluster.

A step of a case gives the whole state: labels of namespaces and pods, policies, and who reaches
whom by which protocol and port. SCTP is left out, which the data plane drops; so is a pod's way to
itself, which its own loopback is.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

from laboratory.attempts import reaches_tcp, reaches_udp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.pod import Pod
from laboratory.policies import Policies

PORTS: Final = (80, 81)
SECONDS: Final = 0.7
ATTEMPTS: Final = 3
"""Attempts of what comes out otherwise: a busy machine may be late."""
Step = dict[str, Any]


class Probe(NamedTuple):
    """One way that traffic may take; pods as ``namespace/name``."""

    source: str
    target: str
    protocol: str
    port: int


class Stage:
    """The pods of all cases, on a cluster of three nodes; kept from one step to the next."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._policies = Policies(cluster)
        self._applied: dict[str, str] = {}
        self.pods: dict[str, Pod] = {}
        self._labels: dict[str, tuple[dict[str, str], dict[str, str]]] = {}

    def set(self, step: Step) -> None:
        """Bring pods, labels and policies into the step's state, and wait until it is in force."""
        wanted = {f"{pod['ns']}/{pod['name']}": pod for pod in step["pods"]}
        for name in self.pods.keys() - wanted.keys():
            self.pods.pop(name).delete()
        for name, pod in wanted.items():
            self._place(name, pod, step["namespaces"][pod["ns"]])
        self._apply(step, {pod["ip"]: self.pods[name].ipv4 for name, pod in wanted.items()})

    def _place(self, name: str, pod: Step, namespace_labels: dict[str, str]) -> None:
        labels = pod["labels"], namespace_labels
        if name not in self.pods:
            ports = tuple((port["name"], port["protocol"], port["port"]) for port in pod["ports"])
            node = f"node{1 + len(self.pods) % 3}"
            self.pods[name] = self._cluster.pod(
                node, pod["ns"], pod["name"], labels[0], namespace_labels=labels[1], named_ports=ports
            )
        elif self._labels[name] != labels:
            self.pods[name].relabel(*labels)
        self._labels[name] = labels

    def _apply(self, step: Step, addresses: dict[str, str]) -> None:
        wanted = {f"{each['metadata']['namespace']}/{each['metadata']['name']}": each for each in step["policies"]}
        texts = {name: json.dumps(in_cluster(each, addresses)) for name, each in wanted.items()}
        gone = [f"NetworkPolicy/{name}" for name in self._applied if name not in texts]
        if gone:
            self._policies.delete(*gone)
        fresh = [text for name, text in texts.items() if self._applied.get(name) != text]
        if fresh:
            self._policies.apply("\n---\n".join(fresh))
        self._applied = texts

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Have every pod answer on its ports."""
        async with echoing(self.pods.values(), tcp=PORTS, udp=PORTS):
            yield

    async def try_all(self, step: Step) -> list[str]:
        """Try every way of a step; return what came out otherwise than it says."""
        expected = dict(probes(step))
        async with self.answering():
            wrong = list(expected)
            for _ in range(ATTEMPTS):
                results = await asyncio.gather(*(self._reaches(probe) for probe in wrong))
                wrong = [probe for probe, came in zip(wrong, results, strict=True) if came != expected[probe]]
                if not wrong:
                    break
        return [f"{probe}: expected {'to pass' if expected[probe] else 'to be dropped'}" for probe in wrong]

    async def _reaches(self, probe: Probe) -> bool:
        reaches = reaches_tcp if probe.protocol == "TCP" else reaches_udp
        return await reaches(self.pods[probe.source], self.pods[probe.target].ipv4, probe.port, seconds=SECONDS)


def probes(step: Step) -> Iterator[tuple[Probe, bool]]:
    """Give each way of a step, and whether traffic passes there."""
    for text, tables in step["expected"].items():
        protocol, _, port = text.partition("/")
        if protocol not in ("TCP", "UDP") or int(port) not in PORTS:
            continue
        for source, row in zip(step["order"], tables["combined"], strict=True):
            for target, letter in zip(step["order"], row, strict=True):
                if source != target and letter in ".X":
                    yield Probe(source, target, protocol, int(port)), letter == "."


def in_cluster(policy: Step, addresses: dict[str, str]) -> Step:
    """Return a policy whose blocks of pods' addresses hold the same pods here: one block each.

    Args:
        addresses: Of the pods, as the case has them -> as they are.
    """
    spec = dict(policy["spec"])
    for section, peers in (("ingress", "from"), ("egress", "to")):
        if spec.get(section):
            spec[section] = [
                {**rule, peers: [mapped for peer in rule[peers] for mapped in _blocks(peer, addresses)]}
                if rule.get(peers)
                else rule
                for rule in spec[section]
            ]
    metadata = {key: policy["metadata"][key] for key in ("name", "namespace")}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _blocks(peer: Step, addresses: dict[str, str]) -> list[Step]:
    block = peer.get("ipBlock")
    if not block or ip_network(block["cidr"]).prefixlen in (0, 31):  # everybody, and nobody
        return [peer]
    holes = [ip_network(hole) for hole in block.get("except", ())]
    inside = [
        ours
        for theirs, ours in addresses.items()
        if ip_address(theirs) in ip_network(block["cidr"]) and not any(ip_address(theirs) in hole for hole in holes)
    ]
    return [{"ipBlock": {"cidr": f"{address}/32"}} for address in inside]
