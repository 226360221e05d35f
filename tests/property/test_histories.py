"""Some long random histories in the usual run; ``python -m tests.property.histories`` plays as many
as you like.
"""

import random

from tests.property.examples import examples
from tests.property.histories import COMPARE, PROBES, run_histories

STEPS = examples(300)


def test_after_any_history_the_engine_is_what_a_new_one_would_be_and_decides_as_the_rules_say() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"--seed {seed}")
    assert run_histories(STEPS, seed) == (STEPS // COMPARE, STEPS // COMPARE * PROBES)
