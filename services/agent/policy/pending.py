"""Pending changes of policy, in groups: identities that changed in one act stay together. Pure."""

from collections.abc import Callable, Iterable

from cilia.contracts.ids import Identity


class PendingGroups:
    """Groups of identities, each handed over whole: a flow between two sees all or nothing."""

    def __init__(self) -> None:
        self._groups: list[set[Identity]] = []

    def add(self, identities: Iterable[Identity]) -> None:
        """Add what changed in one act; groups that share an identity with it become one."""
        group = set(identities)
        apart = []
        for each in self._groups:
            if each.isdisjoint(group):
                apart.append(each)
            else:
                group |= each
        if group:
            self._groups = [*apart, group]

    def names_any(self, identities: Iterable[Identity]) -> bool:
        """Tell whether one of these identities is pending."""
        asked = set(identities)
        return not all(asked.isdisjoint(group) for group in self._groups)

    def take(self, is_free: Callable[[Identity], bool]) -> set[Identity]:
        """Return all groups whose every identity is free, and forget them."""
        ready = [group for group in self._groups if all(map(is_free, group))]
        self._groups = [group for group in self._groups if group not in ready]
        return set().union(*ready)
