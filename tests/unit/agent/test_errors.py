"""Errors: each keeps its data and says what, where and how much."""

import pytest

from cilia.contracts.ids import Identity
from services.agent import errors
from services.agent.errors import AgentError, CannotStart


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            errors.PoolExhausted(("10.1.0.0/28", "10.2.0.0/28"), 26, "the pool is used up"),
            "no free pod address: 26 in use of 10.1.0.0/28, 10.2.0.0/28; the pool is used up",
        ),
        (errors.PoolExhausted((), 0), "no free pod address: 0 in use of no block"),
        (errors.UnknownBlock("10.9.0.1", ()), "address 10.9.0.1 lies in none of this node's blocks (none)"),
        (errors.NoEndpointId(65_535), "all 65535 endpoint ids of this node are in use"),
        (errors.UnknownEndpoint("id", "7"), "no endpoint of this node has id '7'"),
        (errors.NameTaken("shop/web", "/n"), "endpoint shop/web already exists in network namespace /n"),
        (errors.BadField("name", "Web", "small letters"), "name 'Web': small letters"),
        (errors.InterfaceTaken("eth0", "/n"), "/n has a device 'eth0' already"),
        (errors.LinkFailed("creation", "eth0", "/n", "File exists"), "creation of eth0 in /n: File exists"),
        (errors.LinkFailed("removal", "lxc1", "", "busy"), "removal of lxc1 in the host: busy"),
        (errors.NoSlot(Identity(300), 4095), "identity 300: 4095 identities already live on this node"),
        (
            errors.PolicyDoesNotFit(Identity(300), 100, 10),
            "policy of identity 300: 100 entries wanted, 10 free in cilia_policy",
        ),
        (errors.TooSlow("its link", 2.5), "its link took longer than 2.5 s"),
        (CannotStart("no bpffs"), "the node's data plane can't be had: no bpffs"),
    ],
)
def test_an_error_says_what_it_knows(error: Exception, text: str) -> None:
    assert str(error) == text


def test_every_error_stands_in_the_drawing_of_its_module() -> None:
    drawn = errors.__doc__ or ""
    own = [name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, AgentError)]
    assert len(own) > 5
    assert all(name in drawn for name in own)
