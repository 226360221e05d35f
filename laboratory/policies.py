"""Policies applied the way a user does, in a cluster of a test."""

import json
import subprocess
import sys

from laboratory.cluster import LocalCluster


class Policies:
    """``cilia policy`` against one cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def cilia(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the command line."""
        command = [sys.executable, "-m", "cilia.commands.cli", "--cluster", self._cluster.layout.name, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

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
