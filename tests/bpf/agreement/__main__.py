"""``python -m tests.bpf.agreement [--flows N] [--seed N]``: a campaign as long as one likes."""

from argparse import ArgumentParser
from time import monotonic

from tests.bpf.agreement.campaign import laboratory, run


def main() -> None:
    arguments = ArgumentParser(prog="python -m tests.bpf.agreement", description=__doc__)
    arguments.add_argument("--flows", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    began = monotonic()
    with laboratory() as kernel:
        outcomes = run(kernel, given.seed, given.flows)
    for outcome, flows in outcomes.most_common():
        print(f"{flows:>9}  {outcome}")
    print(f"{given.flows:>9}  flows, none different, in {monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
