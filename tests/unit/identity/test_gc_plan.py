from cilia.contracts.ids import Identity, Revision
from services.identity.gc_plan import Delete, Mark, Unmark, plan_round

A, B = Identity(300), Identity(301)


def revisions(**named: int) -> dict[Identity, Revision]:
    return {Identity(int(name[1:])): Revision(revision) for name, revision in named.items()}


def test_an_unused_identity_is_marked_first_and_deleted_in_the_next_round() -> None:
    unused = revisions(i300=5)
    assert plan_round(unused=unused, marks={}, marks_before={}, known={A: "a;"}) == [Mark(A, Revision(5))]
    marks = revisions(i300=9)
    assert plan_round(unused=unused, marks=marks, marks_before={}, known={A: "a;"}) == []
    assert plan_round(unused=unused, marks=marks, marks_before=marks, known={A: "a;"}) == [Delete(A, Revision(9), "a;")]


def test_a_mark_that_was_removed_and_put_again_starts_over() -> None:
    steps = plan_round(
        unused=revisions(i300=5), marks=revisions(i300=12), marks_before=revisions(i300=9), known={A: "a;", B: "b;"}
    )
    assert steps == []


def test_an_identity_in_use_is_left_alone_even_if_marked() -> None:
    marks = revisions(i300=9)
    assert plan_round(unused={}, marks=marks, marks_before=marks, known={A: "a;"}) == []


def test_a_mark_without_an_identity_is_removed() -> None:
    assert plan_round(unused={}, marks=revisions(i301=9), marks_before={}, known={A: "a;"}) == [Unmark(B, Revision(9))]
