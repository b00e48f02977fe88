"""Labels one place on, and grids of patches with class and register tokens."""

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.tokens import causal, to_grid, to_tokens


def test_targets_are_the_next_labels() -> None:
    labels = torch.tensor([[-100, -100, -100, 11, 12, 13, -100, -100]])
    target, mask = causal(labels)
    assert mask[0].nonzero().flatten().tolist() == [2, 3, 4]
    assert target[0, 2:5].tolist() == [11, 12, 13]
    assert (target[~mask] == -100).all()


def test_a_one_token_answer_teaches_exactly_one_position() -> None:
    target, mask = causal(torch.tensor([[-100, -100, 7], [-100, -100, -100]]))
    assert mask.tolist() == [[False, True, False], [False, False, False]]
    assert target.tolist() == [[-100, 7, -100], [-100, -100, -100]]


@pytest.mark.parametrize(
    ("attention", "positions"),
    [([1, 1, 1, 0], [0, 1]), ([0, 1, 1, 1], [1, 2]), ([0, 0, 1, 1], [2]), ([0, 0, 0, 0], [])],
)
def test_padding_is_neither_seen_nor_taught(attention: list[int], positions: list[int]) -> None:
    labels = np.array([[5, 6, 7, 8]])
    target, mask = causal(labels, np.array([attention]))
    assert mask[0].nonzero()[0].tolist() == positions
    assert target[mask].tolist() == [labels[0, i + 1] for i in positions]


def test_an_end_token_that_is_also_the_padding_stays_a_target() -> None:
    end = 2
    labels, attention = torch.tensor([[5, end, end, end]]), torch.tensor([[1, 1, 0, 0]])
    target, _ = causal(labels, attention)
    assert target.tolist() == [[end, -100, -100, -100]]


def test_any_label_may_be_the_ignored_one() -> None:
    target, mask = causal(torch.tensor([[0, 4, 0, 3]]), ignored=0)
    assert target.tolist() == [[4, -100, 3, -100]]
    assert mask.tolist() == [[True, False, True, False]]


def test_labels_and_attention_of_other_shapes_are_refused() -> None:
    with pytest.raises(LimbeckError, match=r"must be \(B, N\), got \(1, 3\) and \(1, 4\)"):
        causal(torch.ones(1, 3), torch.ones(1, 4))
    with pytest.raises(LimbeckError, match=r"got \(3,\)"):
        causal(torch.ones(3))


@pytest.mark.parametrize("extra", [0, 1, 5])
@pytest.mark.parametrize("size", [(3, 3), (2, 4)])
def test_a_grid_is_undone_by_tokens(extra: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, extra + size[0] * size[1], 4)
    grid = to_grid(x, extra, size)
    assert grid.shape == (2, 4, *size)
    assert torch.equal(grid[1, :, 1, 0], x[1, extra + size[1]])
    assert torch.equal(to_tokens(grid), x[:, extra:])
    if size == (3, 3):
        assert torch.equal(to_grid(x, extra), grid)


@pytest.mark.parametrize(
    ("n", "extra", "size", "message"),
    [
        (201, 1, None, "grid of 14 x 14 after 1 extra tokens, got 201"),
        (197, 1, (7, 7), "grid of 7 x 7"),
        (1, 1, None, "N > 1"),
        (4, -1, None, "N > -1"),
    ],
)
def test_tokens_that_are_no_grid_are_refused(
    n: int, extra: int, size: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(LimbeckError, match=message):
        to_grid(torch.zeros(1, n, 2), extra, size)


def test_what_is_no_map_has_no_tokens() -> None:
    with pytest.raises(LimbeckError, match=r"\(B, C, H, W\), got \(2, 3\)"):
        to_tokens(torch.zeros(2, 3))
