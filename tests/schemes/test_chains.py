"""Who teaches whom in a chain."""

import pytest

from limbeck.errors import LimbeckError
from limbeck.schemes.chains import assistants, generations


def test_empty_chains_are_refused() -> None:
    with pytest.raises(LimbeckError, match="generations must be at least 1, got 0"):
        generations("net", 0)
    with pytest.raises(LimbeckError, match="needs at least one"):
        assistants([], "net")


def test_a_teacher_of_the_first_generation_teaches_no_other() -> None:
    plan = generations("net", 2, teacher=True)
    assert [stage.teachers for stage in plan] == [
        ("teacher",),
        ("generation-0",),
        ("generation-1",),
    ]


def test_assistants_without_dense_hear_one_each() -> None:
    plan = assistants(["large", "middle"], "small")
    assert [(stage.model, stage.teachers) for stage in plan] == [
        ("large", ("teacher",)),
        ("middle", ("assistant-1",)),
        ("small", ("assistant-2",)),
    ]
