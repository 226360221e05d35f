"""``cilia cluster``: clusters on this machine."""

import argparse
import os

from cilia.commands.arguments import Nouns, add_output, command, noun
from cilia.commands.local_clusters import NoSuchCluster, cluster_names, needs_laboratory
from cilia.commands.output import note, print_json, print_table
from cilia.errors import Failure


class NotRoot(Failure):
    """Error of a user who may not make namespaces and load eBPF."""

    def __init__(self) -> None:
        super().__init__("a local cluster needs root: network namespaces and eBPF")


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "cluster", "clusters on this machine, in network namespaces")
    start = command(
        verbs, "up", up, "start a cluster", "  cilia cluster up --nodes 3\n  cilia cluster up --name two --replicas 2\n"
    )
    start.add_argument("--name", default="local", help="its name (default %(default)s)")
    start.add_argument("--nodes", type=int, default=3, help="how many nodes (default %(default)s)")
    start.add_argument("--replicas", type=int, default=1, help="of each service (default %(default)s)")
    start.add_argument(
        "--routing", choices=("overlay", "native"), default="overlay", help="between nodes (default %(default)s)"
    )
    start.add_argument(
        "--families",
        choices=("dual", "ipv4", "ipv6"),
        default="dual",
        help="of the pods' addresses (default %(default)s)",
    )
    start.add_argument(
        "--external-host",
        action="store_true",
        help="with a host beyond the nodes, behind a router without routes to pods",
    )
    start.add_argument("--otlp", metavar="URL", default="", help="OTLP/HTTP collector for traces and metrics")
    state = command(verbs, "status", status, "processes of a cluster, or of all", "  cilia cluster status\n")
    state.add_argument("--name", help="only this one")
    add_output(state)
    stop = command(verbs, "down", down, "end a cluster and remove all of it", "  cilia cluster down --name two\n")
    stop.add_argument("--name", help="its name (default: that of --cluster, or local)")
    stop.add_argument("--all", action="store_true", help="every cluster on this machine")


def up(arguments: argparse.Namespace) -> None:
    """Start a cluster."""
    with needs_laboratory():
        from laboratory.cluster import LocalCluster
        from laboratory.layout import Families
    if os.geteuid():
        raise NotRoot
    cluster = LocalCluster.up(
        arguments.name,
        nodes=arguments.nodes,
        replicas=arguments.replicas,
        otlp=arguments.otlp,
        families=Families(arguments.families),
        external_host=arguments.external_host,
        agent_settings={"routing": arguments.routing},
        progress=lambda name: note(f"  {name}"),
    )
    note(f"cluster {arguments.name!r} is up: {len(cluster.state.nodes)} nodes; 'cilia status' shows them")


def status(arguments: argparse.Namespace) -> int:
    """Print the processes of clusters; exit code 1 if something is wrong."""
    with needs_laboratory():
        from laboratory.cluster import LocalCluster
    names = (arguments.name,) if arguments.name else cluster_names()
    rows = []
    for name in names:
        cluster = LocalCluster.open(name)
        for process, problem in cluster.problems().items():
            rows.append((name, process, cluster.process(process).pid, problem or "healthy"))
    if arguments.output == "json":
        print_json([dict(zip(("cluster", "process", "pid", "state"), row, strict=True)) for row in rows])
    else:
        print_table(("cluster", "process", "pid", "state"), rows, empty="no cluster runs on this machine")
    return 0 if all(row[3] == "healthy" for row in rows) else 1


def down(arguments: argparse.Namespace) -> None:
    """End clusters."""
    with needs_laboratory():
        from laboratory.cluster import LocalCluster, remove
        from laboratory.layout import Layout
        from laboratory.namespaces import namespaces_of
        from laboratory.state import names_on_disk
    names = names_on_disk() if arguments.all else (arguments.name or arguments.cluster or "local",)
    for name in names:
        if name in cluster_names():
            LocalCluster.open(name).down()
        elif name in names_on_disk() or namespaces_of(Layout(name)):
            remove(Layout(name))  # its record is lost
        else:
            raise NoSuchCluster(name, cluster_names())
        note(f"cluster {name!r} is gone")
