from services.agent.policy.cleanup import split_at_waits
from services.agent.policy.plan import Forget, Wait


def test_waits_divide_the_instructions_into_phases() -> None:
    one, two = Forget(1), Forget(2)
    assert split_at_waits([one, Wait(), two, Wait()]) == ((one,), (two,), ())
    assert split_at_waits([Wait(), one]) == ((), (one,))
