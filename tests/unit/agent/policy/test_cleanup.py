from services.agent.policy.cleanup import split_at_grace_periods
from services.agent.policy.plan import AwaitGracePeriod, ClearNextVersion


def test_waits_divide_the_instructions_into_phases() -> None:
    one, two = ClearNextVersion(1), ClearNextVersion(2)
    assert split_at_grace_periods([one, AwaitGracePeriod(), two, AwaitGracePeriod()]) == ((one,), (two,), ())
    assert split_at_grace_periods([AwaitGracePeriod(), one]) == ((), (one,))
