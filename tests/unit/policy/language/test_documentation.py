"""Examples in docs/policy.md work as they stand there."""

import re
from pathlib import Path

from cilia.commands.cli import build_parser
from cilia.policy.simulate.cases import run_cases
from cilia.policy.simulate.cluster import build_cluster
from cilia.policy.simulate.description import Description, read_description
from cilia.policy.simulate.verdicts import judge_all
from laboratory.command_line import cilia

PAGE = (Path(__file__).parents[4] / "docs" / "policy.md").read_text()
EXAMPLE = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]


def test_the_example_of_policies_as_code_holds_and_covers_every_rule() -> None:
    world = build_cluster(read_description(EXAMPLE, "docs/policy.md"))
    results = run_cases(world)
    assert (results.broken, results.coverage_percent) == ((), 100.0)
    assert len(list(judge_all(world, world.description.probes))) == 3 * 2 * 3


def test_every_field_of_a_description_is_documented() -> None:
    assert [name for name in Description.__struct_fields__ if f"`{name}`" not in PAGE] == []


def test_every_command_of_the_page_is_one() -> None:
    for line in re.findall(r"^cilia (.*?)(?: +[#>].*)?$", PAGE, re.MULTILINE):
        noun, second = line.split()[:2]
        arguments = build_parser([noun]).parse_args(line.split())
        assert getattr(arguments, "verb", second) == second


def test_the_help_of_every_verb_has_examples() -> None:
    for verb in ("apply", "explain", "history", "rollback", "blame", "test", "verdicts"):
        done = cilia("policy", verb, "--help")
        assert f"examples:\n  cilia policy {verb}" in done.stdout
