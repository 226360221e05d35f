from random import Random

import pytest

from cilia.contracts.identities import Reserved, cluster_range
from cilia.contracts.ids import Identity
from cilia.contracts.labels import parse_labels
from cilia.errors import BadConfig
from services.identity.numbers import number_range, pick_number, reserved_identity


def test_every_number_is_given_before_the_range_is_exhausted() -> None:
    numbers, taken, random = range(256, 300), set[Identity](), Random(1)
    for _ in numbers:
        number = pick_number(numbers, taken, random)
        assert number is not None
        assert number not in taken
        taken.add(number)
    assert taken == set(numbers)
    assert pick_number(numbers, taken, random) is None


@pytest.mark.parametrize("reserved", list(Reserved))
def test_the_label_of_a_reserved_identity_alone_means_that_identity(reserved: Reserved) -> None:
    assert reserved_identity(parse_labels([reserved.label])) == Identity(reserved)


@pytest.mark.parametrize("labels", [["reserved:init", "k8s:app=web"], ["reserved:nonsense"], ["app=web"], []])
def test_other_label_sets_mean_no_reserved_identity(labels: list[str]) -> None:
    assert reserved_identity(parse_labels(labels)) is None


def test_a_cluster_allocates_in_its_own_range_or_a_part_of_it() -> None:
    assert number_range(3, "") == cluster_range(3)
    assert number_range(0, "256-259") == range(256, 260)


@pytest.mark.parametrize("limits", ["1-300", "300-256", "256", "256-70000", "a-b", "-"])
def test_impossible_limits_are_refused_by_name(limits: str) -> None:
    with pytest.raises(BadConfig, match="identities.*" + limits):
        number_range(0, limits)


def test_an_impossible_cluster_id_is_refused_by_name() -> None:
    with pytest.raises(BadConfig, match=r"cluster_id.*256"):
        number_range(256, "")
