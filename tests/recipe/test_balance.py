"""`balance:` on a term of a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recipe.raws import problems, raw, recipe

from limbeck.check import summary
from limbeck.recipe import check_recipe, run, validate
from limbeck.recipe.arms import arms_of
from limbeck.recipe.text import dump, parse

each = pytest.mark.parametrize
TERMS = [{"loss": "truth"}, {"loss": "kl", "temperature": 4, "balance": 0.5}]


def test_a_resolved_recipe_is_the_same_recipe() -> None:
    made = recipe(objective=TERMS)
    assert made.objective[1].balance == 0.5
    assert validate(parse(dump(made), "it")) == made


@each(
    ("changes", "problem"),
    [
        ({"weight": 0.5}, "objective.1: balance finds the weight; leave out weight"),
        (
            {"weight": {"schedule": "linear", "start": 0, "stop": 1}},
            "objective.1: balance finds the weight; leave out weight",
        ),
        ({"balance": 0}, "objective.1.balance: input should be greater than 0, got 0"),
        ({"balance": "inf"}, "objective.1.balance: input should be a finite number, got 'inf'"),
    ],
)
def test_what_a_balance_cannot_be(changes: dict[str, Any], problem: str) -> None:
    terms = [TERMS[0], {**TERMS[1], **changes}]
    assert problems(validate, raw(objective=terms)) == [problem]


def test_one_term_needs_a_weight() -> None:
    terms = [{"loss": "truth", "balance": 1}, TERMS[1]]
    found = problems(validate, raw(objective=terms))
    assert found == ["the recipe: every term has a balance and none a weight to be balanced with"]


@each(
    ("terms", "truths", "hard"),
    [
        (TERMS, [None], 0.5),
        (list(reversed(TERMS)), [None], 0.5),
        ([{"loss": "truth", "balance": 2.0}, {"loss": "kl"}], [2.0], None),
        ([TERMS[1], {"loss": "hint", "at": "0"}], [], None),
    ],
)
def test_every_arm_has_something_to_be_balanced_with(
    terms: list[dict[str, Any]], truths: list[float | None], hard: float | None
) -> None:
    arms = arms_of(recipe(objective=terms))
    balances = {name: [term.balance for term in arm.objective] for name, arm in arms.items()}
    assert balances["labels only"] == [None]
    assert balances["hard pseudo-labels"] == [*truths, hard]
    for arm in arms.values():
        assert validate(arm.model_dump(mode="json")) == arm


def test_the_check_shows_the_factor_and_the_training_starts_with_it(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    made = validate(small(objective=TERMS))
    document = check_recipe(made)
    truth, soft = document["terms"]
    assert soft["value"] == pytest.approx(0.5 * truth["value"], rel=1e-5)
    assert soft["weight"] == pytest.approx(soft["value"] / soft["unweighted"])
    assert soft["weight"] not in (0.5, 1.0)
    assert f"{soft['weight']:.4g}" in summary(document)
    run(made, tmp_path / "run")
    first = parse((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0], "a line")
    assert first["parts"]["kl"] == pytest.approx(0.5 * first["parts"]["truth"], rel=1e-5)
