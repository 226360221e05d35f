"""Requests to create an endpoint: what is impossible is refused by field and value."""

from typing import Any

import pytest

from services.agent.api.validation import check_endpoint
from services.agent.errors import BadField
from tests.unit.agent.endpoint.node import request


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "a"},
        {"name": "web-0.shop"},
        {"name": "a" * 253},
        {"namespace": "a" * 63},
        {"interface": "a" * 15},
        {"interface": "net.100"},
        {"named_ports": (("http", "tcp", 80), ("dns", "UDP", 53), ("sig", "sctp", 65_535))},
        {"timeout_seconds": 0.1},
    ],
)
def test_what_is_possible_passes(fields: dict[str, Any]) -> None:
    check_endpoint(request(**fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "Web"),
        ("name", "-web"),
        ("name", "web-"),
        ("name", "a/b"),
        ("name", "a" * 254),
        ("namespace", ""),
        ("namespace", "a.b"),
        ("namespace", "a" * 64),
        ("namespace", "shop\n"),
        ("netns", ""),
        ("interface", ""),
        ("interface", "a" * 16),
        ("interface", "a b"),
        ("interface", "a/b"),
        ("interface", "a:b"),
        ("interface", "."),
        ("interface", ".."),
        ("interface", "lo"),
        ("timeout_seconds", 0),
        ("timeout_seconds", -1.5),
    ],
)
def test_what_is_impossible_is_refused_by_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(BadField) as caught:
        check_endpoint(request(**{field: value}))
    assert (caught.value.field, caught.value.value) == (field, str(value))
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (("http", "HTTP", 80), "http: HTTP"),
        (("ping", "ICMP", 8), "ping: ICMP"),
        (("http", "TCP", 0), "http: 0"),
        (("http", "TCP", 65_536), "http: 65536"),
        (("dns", "udp", 54), "dns: 54"),
        (("a;b", "TCP", 80), "a;b"),
        (("80", "TCP", 80), "80"),
        (("", "TCP", 80), ""),
    ],
)
def test_a_named_port_is_refused_by_its_name(port: tuple[str, str, int], said: str) -> None:
    with pytest.raises(BadField) as caught:
        check_endpoint(request(named_ports=(("dns", "UDP", 53), port)))
    assert (caught.value.field, caught.value.value) == ("named_ports", said)
