"""Which policy a user means."""

from collections.abc import Mapping

from cilia.contracts.tables import PolicyObject
from cilia.errors import Failure


class NoSuchPolicy(Failure):
    """No policy has this name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no policy {name!r}; there are: {', '.join(known) or 'none'}")


class AmbiguousPolicy(Failure):
    """Policies of several kinds or namespaces have this name."""

    exit_code = 2

    def __init__(self, name: str, found: list[str]) -> None:
        super().__init__(f"which {name!r}? There are: {', '.join(found)}")


def find_policy(known: Mapping[str, PolicyObject], name: str) -> str:
    """Return the one key that a user means by ``[kind/]namespace/name``.

    Raises:
        NoSuchPolicy, AmbiguousPolicy: There is none, or more than one.
    """
    found = [key for key in known if name in (key, key.partition("/")[2], key.partition("/")[2].removeprefix("/"))]
    if not found:
        raise NoSuchPolicy(name, sorted(known))
    if len(found) > 1:
        raise AmbiguousPolicy(name, sorted(found))
    return found[0]
