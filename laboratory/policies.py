"""Policies of a local cluster, changed by the command line as users do."""

import json
import subprocess

from laboratory.cluster import LocalCluster
from laboratory.command_line import cilia


class Policies:
    """``cilia policy`` against one cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def cilia(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the command line."""
        return cilia("--cluster", self._cluster.layout.name, *arguments, text=text)

    def apply(self, text: str) -> None:
        """Apply documents and wait until they are in force everywhere."""
        run = self.cilia("policy", "apply", "-f", "-", "--wait", text=text)
        assert run.returncode == 0, run.stderr

    def delete(self, *names: str) -> None:
        """Remove policies and wait until that is in force everywhere."""
        run = self.cilia("policy", "delete", "--wait", *names)
        assert run.returncode == 0, run.stderr

    def delete_all(self) -> None:
        """Remove whatever a test applied."""
        run = self.cilia("policy", "list", "-o", "json")
        assert run.returncode == 0, run.stderr
        names = [f"{policy['kind']}/{policy['namespace']}/{policy['name']}" for policy in json.loads(run.stdout)]
        if names:
            self.delete(*names)
