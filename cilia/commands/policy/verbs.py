"""``cilia policy``: the noun with all its verbs."""

from cilia.commands.arguments import Nouns, noun
from cilia.commands.policy import (
    apply,
    cases,
    diff,
    explain,
    generate,
    history,
    modes,
    shadow,
    verdicts,
    views,
    watch,
)

VERBS = (apply, views, explain, history, modes, watch, verdicts, cases, diff, generate, shadow)
"""Modules in the order in which help lists their verbs."""


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "policy", "policies: which traffic is allowed")
    for module in VERBS:
        module.add_verbs(verbs)
