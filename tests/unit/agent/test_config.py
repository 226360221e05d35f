import pytest

from cilia.config import load
from cilia.errors import BadConfig
from services.agent.config import Config, RoutingMode

NODE = ["--node", "node1", "--ipv4", "192.0.2.1"]


@pytest.mark.parametrize(
    ("pools", "versions"),
    [
        ([], (4,)),
        (["--pool6", "six"], (4, 6)),
        (["--pool", "", "--pool6", "six"], (6,)),
    ],
)
def test_pods_get_an_address_of_each_pool_that_is_named(pools: list[str], versions: tuple[int, ...]) -> None:
    assert load(Config, NODE + pools, {}).versions == versions


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--ipv4", "nowhere"], "ipv4", "nowhere"),
        (["--ipv4", "fd00::1"], "ipv4", "fd00::1"),
        (["--ipv6", "192.0.2.1"], "ipv6", "192.0.2.1"),
        (["--ipv6", "fd00::/64"], "ipv6", "fd00::/64"),
        (["--pool", ""], "pool", ""),
    ],
)
def test_an_impossible_setting_is_refused_with_its_value(flags: list[str], field: str, value: str) -> None:
    with pytest.raises(BadConfig) as caught:
        load(Config, NODE + flags, {})
    assert (caught.value.field, caught.value.value) == (field, value)


@pytest.mark.parametrize(
    ("flags", "field", "said"),
    [
        (["--masquerade-exclude", "192.0.2.0/33"], "masquerade_exclude", "192.0.2.0/33"),
        (["--masquerade-exclude", "192.0.2.1/24"], "masquerade_exclude", "has host bits set"),
        (["--labels", "=x"], "labels", "key is empty"),
        (["--maps-conntrack", "-1"], "maps.conntrack", "0 to 67108864"),
        (["--maps-memory-share", "0.9"], "maps.memory_share", "0 to 0.5"),
        (["--maps-least-entries", "0"], "maps.least_entries", "must be 1 to"),
        (["--routing", "magic"], "routing", "magic"),
        (["--drift-seconds", "soon"], "drift_seconds", "soon"),
        (["--no-such-setting", "1"], "no-such-setting", ""),
    ],
)
def test_a_refusal_says_what_would_be_right(flags: list[str], field: str, said: str) -> None:
    with pytest.raises(BadConfig) as caught:
        load(Config, NODE + flags, {})
    assert field.replace("-", "_") in str(caught.value).replace("-", "_")
    assert said in str(caught.value)


def test_a_node_without_a_name_or_an_address_is_refused() -> None:
    for flags in (["--node", "node1"], ["--ipv4", "192.0.2.1"]):
        with pytest.raises(BadConfig):
            load(Config, flags, {})


def test_settings_of_parts_are_set_by_their_paths_from_flags_and_environment() -> None:
    flags = [*NODE, "--maps-policy", "300", "--timeouts-tcp-seconds", "60", "--routing", "native"]
    config = load(Config, flags, {"CILIA_MAPS_NAT": "5000", "CILIA_POOL6": "six"})
    assert (config.maps.policy, config.maps.nat, config.timeouts.tcp_seconds) == (300, 5000, 60)
    assert (config.routing, config.versions) == (RoutingMode.NATIVE, (4, 6))


def test_networks_of_either_family_may_be_excluded_from_masquerading() -> None:
    config = load(Config, [*NODE, "--masquerade-exclude", "192.0.2.0/24,2001:db8::/32"], {})
    assert config.masquerade_exclude == ("192.0.2.0/24", "2001:db8::/32")
