"""Cost of policy: in the service at scale, until kernels hold it, for packets, for 1,000 agents.

``python -m bench.policy [--json]``; some two minutes.
"""

import uvloop

from bench.policy_agents import measure_agents
from bench.policy_nodes import measure_nodes
from bench.policy_scale import measure_scale
from bench.report import report


def main() -> None:
    """Measure and print."""
    report([*measure_scale(), *measure_nodes(), *uvloop.run(measure_agents())])


if __name__ == "__main__":
    main()
