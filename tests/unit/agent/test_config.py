import pytest

from cilia.config import load
from cilia.errors import BadConfig
from services.agent.config import Config

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
