"""Blame: the revisions that gave the rules that decide a flow their present text."""

from collections.abc import Awaitable, Callable, Sequence

from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.history import Blamed, HistoryRow, Origin
from services.policy.history.changelog import Changelog
from services.policy.history.revisions import find_origin


async def blame(
    history: Changelog, explain: Callable[[ExplainFlow], Awaitable[Explained]], request: ExplainFlow
) -> Blamed:
    """Answer ``policy.blame``: explain a flow, and find the origin of each rule and policy that
    decides it.
    """
    explained = await explain(request)
    rows = await history.read()
    deciding = [
        (policy, rule)
        for side in (explained.egress, explained.ingress)
        for policy, rule in (
            *((path.policy, path.rule) for path in side.rules),
            *((key, "") for key in side.isolated_by),
        )
    ]
    return Blamed(explained, tuple(_origins(deciding, rows)))


def _origins(deciding: Sequence[tuple[str, str]], rows: Sequence[HistoryRow]) -> list[Origin]:
    return [Origin(policy, rule, find_origin(rows, policy, rule)) for policy, rule in dict.fromkeys(deciding)]
