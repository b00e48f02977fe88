import math

import pytest

from limbeck.schedules import Cosine, Linear, Schedule, Steps, scale


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Linear(1, 3), [1.0, 1.5, 2.0, 3.0]),
        (Linear(0, 2, until=0.5), [0.0, 1.0, 2.0, 2.0]),
        (Cosine(4, 1), [4.0, 4 - 1.5 * (1 - math.cos(math.pi / 4)), 2.5, 1.0]),
        (Cosine(0, 2, until=0.5), [0.0, 1.0, 2.0, 2.0]),
        (Steps((0.5, 0.9), (1.0, 0.1, 0.01)), [1.0, 1.0, 0.1, 0.01]),
    ],
)
def test_values_at_a_quarter_a_half_and_the_ends(schedule: Schedule, values: list[float]) -> None:
    assert [schedule(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(values, abs=1e-12)


def test_any_function_of_progress_is_a_schedule() -> None:
    assert isinstance(math.sqrt, Schedule)
    assert not isinstance(0.5, Schedule)


def test_scaling_numbers_and_schedules() -> None:
    assert scale(2.0, 3) == 6.0
    tripled = scale(Linear(0, 1), 3)
    assert isinstance(tripled, Schedule)
    assert tripled(0.5) == 1.5


def test_schedules_of_one_setting_are_equal() -> None:
    assert scale(Linear(0, 1), 3) == scale(Linear(0, 1), 3)
    assert Linear(0, 1) != Linear(0, 2)


@pytest.mark.parametrize("kind", [Linear, Cosine])
@pytest.mark.parametrize("until", [0, -0.5, 1.5])
def test_until_is_a_progress(kind: type[Linear | Cosine], until: float) -> None:
    with pytest.raises(ValueError, match="until must be a progress above 0"):
        kind(0, 1, until=until)


def test_steps_need_a_value_more_than_bounds() -> None:
    with pytest.raises(ValueError, match="1 bounds need one value more"):
        Steps((0.5,), (1.0,))
