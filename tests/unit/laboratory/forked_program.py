"""Program of the tests of forked processes."""

import random
import sys
import time


def main() -> int:
    match sys.argv[1:]:
        case ["exit", code]:
            return int(code)
        case ["random"]:
            return random.randrange(200)
        case ["sleep"]:
            time.sleep(600)
    raise ValueError(sys.argv)
