"""Local clusters as commands find them: by the state file that the laboratory writes for each.

The laboratory makes clusters (``cilia cluster up``) and is not installed everywhere; finding one
that runs needs only its file.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from cilia.errors import Failure
from cilia.netns import DIRECTORY as NAMESPACES

STATE_DIRECTORY: Final = Path("/run/cilia")
STATE_FILE: Final = "cluster.json"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class BadClusterName(Failure):
    """Error of a name that can't be part of subjects, keys, files and namespaces."""

    exit_code = 2

    def __init__(self, name: str) -> None:
        super().__init__(f"cluster name {name!r}: lower case letters, digits and dashes, at most 32 characters")


class NoSuchCluster(Failure):
    """Error of a name that no local cluster has."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        there = f"there are: {', '.join(known)}" if known else "none is running; start one with 'cilia cluster up'"
        super().__init__(f"no cluster {name!r}; {there}")


class Ambiguous(Failure):
    """Error of a command that names no cluster while several run."""

    exit_code = 2

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"which cluster? There are {', '.join(names)}: name one by --cluster or $CILIA_CLUSTER")


class LaboratoryMissing(Failure):
    """Error of an installation without the package that makes local clusters."""

    def __init__(self) -> None:
        super().__init__(
            "local clusters need the package 'laboratory', which is not installed: "
            "run from a checkout, or build the wheel with CILIA_LABORATORY=1"
        )


class LocalClusterAddress(Struct, frozen=True):
    """Address of a local cluster; the rest of its state file is the laboratory's."""

    name: str
    nats: str
    """URL of the bus, in the network namespace ``hub``."""
    hub: str

    @property
    def hub_path(self) -> Path:
        """Path of the network namespace of the bus."""
        return NAMESPACES / self.hub


def state_directory(name: str) -> Path:
    """Return the directory of a cluster's files.

    Raises:
        BadClusterName: The name is none.
    """
    if not _NAME.fullmatch(name):
        raise BadClusterName(name)
    return STATE_DIRECTORY / name


def cluster_names() -> tuple[str, ...]:
    """Return the names of the clusters on this machine."""
    return tuple(sorted(path.parent.name for path in STATE_DIRECTORY.glob(f"*/{STATE_FILE}")))


def read_state_file(name: str) -> bytes:
    """Return a cluster's state file as it is.

    Raises:
        BadClusterName, NoSuchCluster: The name is none, or no cluster's.
    """
    try:
        return (state_directory(name) / STATE_FILE).read_bytes()
    except FileNotFoundError:
        raise NoSuchCluster(name, cluster_names()) from None


def find_cluster(name: str | None) -> LocalClusterAddress:
    """Return the cluster that is meant: the named one, ``$CILIA_CLUSTER``, or the only one.

    Raises:
        BadClusterName, NoSuchCluster, Ambiguous: There is none, or more than one.
    """
    wanted = name or os.environ.get("CILIA_CLUSTER")
    names = cluster_names()
    if not wanted and len(names) > 1:
        raise Ambiguous(names)
    found = wanted or (names[0] if names else "local")
    return msgspec.json.decode(read_state_file(found), type=LocalClusterAddress)


@contextmanager
def needs_laboratory() -> Iterator[None]:
    """Import modules of the laboratory in the block.

    Raises:
        LaboratoryMissing: It is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "laboratory":
            raise
        raise LaboratoryMissing from None
