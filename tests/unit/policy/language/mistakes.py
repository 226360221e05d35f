"""Policies with a mistake at one place, and what becomes of them."""

import pytest

from cilia.policy.errors import BadPolicy, NotEnforced
from cilia.policy.language.parse import parse_policies

CNP = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: x}
spec:
  endpointSelector: {}
"""
NP = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
"""


def cnp(spec: str) -> str:
    """Return a policy with these further fields of ``spec``, in flow style."""
    return CNP + "\n".join(f"  {line}" for line in spec.splitlines())


def ports(text: str) -> str:
    """Return a policy with one port."""
    return cnp("ingress: [{toPorts: [{ports: [" + text + "]}]}]")


def peer(text: str) -> str:
    """Return a policy with one peer field."""
    return cnp("egress: [{" + text + "}]")


def http(text: str) -> str:
    """Return a policy with rules of layer 7."""
    return cnp("egress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], " + text + "}]}]")


def np(text: str) -> str:
    """Return a NetworkPolicy with these fields of ``spec``."""
    return NP + "\n".join(f"  {line}" for line in ("podSelector: {}\n" + text).splitlines())


def assert_refused(text: str, path: str, reason: str) -> None:
    """Read a text that is wrong at a path; it is refused for this reason, as a whole."""
    with pytest.raises(BadPolicy) as caught:
        parse_policies(text, source="web.yaml")
    error = caught.value
    assert error.path == path
    assert reason in error.reason
    assert str(error).startswith("web.yaml, document 1")
    assert not isinstance(error, NotEnforced)
