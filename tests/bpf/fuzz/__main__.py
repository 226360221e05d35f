"""``python -m tests.bpf.fuzz [--packets N] [--nearly SHARE] [--broken SHARE] [--seed N]``: a
campaign as long as one likes.
"""

from argparse import ArgumentParser
from time import monotonic

from cilia.abi.enums import DropReason
from tests.bpf.fuzz.campaign import Shares, laboratory, run


def main() -> None:
    arguments = ArgumentParser(prog="python -m tests.bpf.fuzz", description=__doc__)
    arguments.add_argument("--packets", type=int, default=100_000)
    arguments.add_argument("--nearly", type=float, default=0.5, help="share of nearly valid frames, 0..1")
    arguments.add_argument("--broken", type=float, default=0.05, help="share of broken frames, 0..1")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    began = monotonic()
    with laboratory() as node:
        outcomes = run(node, given.seed, given.packets, Shares(given.nearly, given.broken))
    for reason, frames in outcomes.most_common():
        print(f"{frames:>9}  {DropReason(reason).name.lower() if reason else 'forwarded'}")
    print(f"{given.packets:>9}  frames, none different, in {monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
