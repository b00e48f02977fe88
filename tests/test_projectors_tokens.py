"""Projectors between tokens and maps, and on pooled features."""

import pytest
import torch

from limbeck.projectors import Factory, Shape, grid, orthogonal, patches, pooled

each = pytest.mark.parametrize


@each(
    ("factory", "student", "source"),
    [
        (grid(extra=1), (2, 197, 384), (2, 512, 7, 7)),
        (grid(extra=0), (2, 196, 384), (2, 512, 7, 7)),
        (grid(extra=5), (1, 21, 3), (1, 4, 8, 6)),
        (patches(extra=1), (2, 512, 7, 7), (2, 197, 384)),
        (patches(extra=0), (2, 8, 5, 3), (2, 16, 6)),
        (patches(extra=5), (1, 4, 8, 8), (1, 21, 3)),
    ],
)
def test_tokens_and_maps_bridge(factory: Factory, student: Shape, source: Shape) -> None:
    x = torch.randn(student, requires_grad=True)
    project = factory(student, source)
    y = project(x)
    assert y.shape == source
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in project.parameters())


def test_class_and_register_tokens_do_not_enter_a_grid() -> None:
    project = grid(extra=5)((2, 14, 4), (2, 6, 3, 3))
    x = torch.randn(2, 14, 4)
    expected = project(x)
    x[:, :5] = torch.nan
    assert torch.equal(project(x), expected)


@each("kind", [(2, 3), (2, 5, 3), (2, 3, 4, 4)])
@each("source", [(2, 6), (2, 7, 6), (2, 6, 2, 2), (2, 2)])
@each("factory", [pooled, orthogonal])
def test_widths_bridge_whatever_holds_them(factory: Factory, kind: Shape, source: Shape) -> None:
    x = torch.randn(kind)
    y = factory(kind, source)(x)
    wide = source[1] if len(source) == 4 else source[-1]
    assert y.shape == ((2, 5, wide) if len(kind) == 3 else (2, wide))


@each(("narrow", "wide"), [(3, 5), (4, 4), (5, 3)])
def test_orthogonal_maps_keep_or_shrink_lengths(narrow: int, wide: int) -> None:
    weight = orthogonal((1, narrow), (1, wide)).linear.weight
    inner = weight.T @ weight if wide >= narrow else weight @ weight.T
    torch.testing.assert_close(inner, torch.eye(len(inner)), rtol=0, atol=1e-6)


@each("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_orthogonal_map_never_goes_to_half_precision(dtype: torch.dtype) -> None:
    project = orthogonal((1, 3), (1, 5))
    before = project.linear.weight.detach()
    kept = project.to(dtype).linear.weight.detach()
    assert kept.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(kept.float(), before)


@each(
    ("factory", "student", "source", "message"),
    [
        (grid(), (2, 3, 4, 4), (2, 3, 4, 4), "grid projects tokens to maps"),
        (patches(), (2, 5, 3), (2, 5, 3), "patches projects maps to tokens"),
        (patches(extra=1), (2, 3, 4, 4), (2, 196, 3), "are not 196 tokens"),
        (patches(extra=5), (2, 3, 4, 4), (2, 5, 3), "are not 5 tokens"),
    ],
)
def test_what_cannot_be_bridged(
    factory: Factory, student: Shape, source: Shape, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        factory(student, source)
