"""``python -m tests.bpf.swaps [--swaps N] [--writer agent|one-by-one|in-place]``: swaps of policy
under traffic.
"""

import sys
from argparse import ArgumentParser

from tests.bpf.swaps.arena import arena
from tests.bpf.swaps.campaign import run
from tests.bpf.swaps.writers import rewrite_in_place, write_as_the_agent, write_one_subject_after_the_other

WRITERS = {
    "agent": write_as_the_agent,
    "one-by-one": write_one_subject_after_the_other,
    "in-place": rewrite_in_place,
}


def main() -> int:
    arguments = ArgumentParser(prog="python -m tests.bpf.swaps", description=__doc__)
    arguments.add_argument("--swaps", type=int, default=10_000)
    arguments.add_argument("--writer", choices=WRITERS, default="agent")
    given = arguments.parse_args()
    with arena() as here:
        result = run(here, WRITERS[given.writer], given.swaps)
    rate = result.swaps / result.seconds
    print(
        f"{result.swaps} swaps, {rate:.0f} a second, under {result.packets} packets, {result.verdicts} of them decided"
    )
    for what, times in sorted(result.wrong.items()):
        print(f"{times:>9}  {what}")
    print("every verdict was that of one set or the other" if not result.wrong else "some belonged to neither set")
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
