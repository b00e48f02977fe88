"""Layer maps: within both models, rising, and counted as models count."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from limbeck import Match, losses
from limbeck.errors import LimbeckError
from limbeck.methods import layers
from limbeck.methods.layers import attentions, named, uniform

each = pytest.mark.parametrize
LAYERS, STATES = uniform(2, 4), "output.hidden_states.{}"


def test_b118_layer_maps_count_the_embeddings_among_states_alone() -> None:
    assert uniform(6, 12) == [(0, 0), (1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]
    assert attentions(uniform(6, 12)) == [(0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 11)]
    assert uniform(4, 12)[1:] == [(1, 3), (2, 6), (3, 9), (4, 12)]
    assert uniform(3, 12)[1:] == [(1, 4), (2, 8), (3, 12)]


@each("make", [uniform, layers.skip, layers.last])
@each("student", [1, 3, 4, 5, 6])
def test_maps_rise_within_both_models(make: Callable[[int, int], Any], student: int) -> None:
    pairs = make(student, 12)
    assert all(0 <= s <= student and 0 <= t <= 12 for s, t in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(pairs))
    assert all(0 <= s < student and 0 <= t < 12 for s, t in attentions(pairs))


@each("depths", [(0, 4), (5, 4)])
def test_depths_that_no_map_joins_are_refused(depths: tuple[int, int]) -> None:
    with pytest.raises(LimbeckError, match="count blocks, not hidden states"):
        uniform(*depths)


def test_a_name_without_a_place_for_the_number_is_refused() -> None:
    with pytest.raises(LimbeckError, match=r"must have \{\} where its number goes, got 'states'"):
        named(LAYERS, STATES, "states")


def test_matches_are_one_a_pair_with_names_of_their_own() -> None:
    found = layers.matches(losses.hint, named(LAYERS, STATES), options={"axis": -1})
    assert all(isinstance(match, Match) for match in found)
    assert [(match.student, match.theirs) for match in found] == named(LAYERS, STATES)
    assert len({match.name for match in found}) == 3
