from collections import Counter

import pytest

from cilia.policy.explain import judgement
from tests.bpf.agreement.campaign import Difference, laboratory, run


@pytest.mark.timeout(300)
def test_explanation_and_what_if_say_what_the_programs_do() -> None:
    with laboratory() as kernel:
        outcomes: Counter[str] = run(kernel, seed=7, flows=4000)
    assert sum(outcomes.values()) == 4000
    kinds = {outcome.split()[0] for outcome in outcomes if outcomes[outcome] > 20}
    assert kinds == {"forwarded", "dropped", "audited"}


def test_an_explanation_that_forgets_deny_rules_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = judgement.Judge._judge_under

    def forgetful(self, applying, *arguments, **options):  # type: ignore[no-untyped-def]
        allows = tuple((place, rule) for place, rule in applying.rules if not rule.deny)
        return honest(self, applying._replace(rules=allows), *arguments, **options)

    monkeypatch.setattr(judgement.Judge, "_judge_under", forgetful)
    with laboratory() as kernel, pytest.raises(Difference):
        run(kernel, seed=7, flows=4000)
