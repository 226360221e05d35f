import pytest

from services.agent.loader.datapath import masquerade_ports


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ((32768, 60999), (1024, 29999)),
        ((1024, 32767), (32768, 65535)),
        ((10000, 20000), (20001, 65535)),
        ((15000, 64000), (1024, 14999)),
    ],
)
def test_masqueraded_flows_take_what_the_node_leaves_over(local: tuple[int, int], expected: tuple[int, int]) -> None:
    assert masquerade_ports(*local) == expected
