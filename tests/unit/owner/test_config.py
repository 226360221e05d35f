"""Settings of the services: impossible ones are refused by name and value, at the start."""

import pytest

from cilia.errors import BadConfig
from cilia.owner.config import OwnerConfig
from services.identity.config import Config as IdentityConfig
from services.ipam.config import Config as IpamConfig


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        (OwnerConfig, {"concurrency": 0}, "concurrency"),
        (OwnerConfig, {"election_seconds": -1}, "election_seconds"),
        (IdentityConfig, {"concurrency": 0}, "concurrency"),
        (IdentityConfig, {"gc_seconds": 0.0}, "gc_seconds"),
        (IdentityConfig, {"gc_per_second": -1.0}, "gc_per_second"),
        (IpamConfig, {"election_seconds": 0}, "election_seconds"),
        (IpamConfig, {"stale_seconds": 0.0}, "stale_seconds"),
        (IpamConfig, {"dead_seconds": 30.0}, "dead_seconds"),
        (IpamConfig, {"dead_seconds": -1.0}, "dead_seconds"),
        (IpamConfig, {"stale_seconds": 60.0, "dead_seconds": 59.0}, "dead_seconds"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(
    kind: type[OwnerConfig], settings: dict[str, float], named: str
) -> None:
    with pytest.raises(BadConfig, match=named) as refused:
        kind(**settings)  # type: ignore[arg-type]
    assert str(settings[named]) in str(refused.value)


def test_what_is_given_by_default_is_possible_and_replicas_have_names_of_their_own() -> None:
    assert all(kind().replica for kind in (OwnerConfig, IdentityConfig, IpamConfig))


def test_a_node_may_be_silent_for_ever() -> None:
    assert IpamConfig(dead_seconds=0.0).dead_seconds == 0
    assert IpamConfig(stale_seconds=10.0, dead_seconds=10.5).dead_seconds == 10.5
