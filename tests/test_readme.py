"""The README tells the truth: tables are committed results, lines of code run, links lead on."""

import copy
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import limbeck
from limbeck import Distiller, Match, Mutual, losses, truth, zoo
from limbeck.data import open_images

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FAMILIES = TEXT.partition("## What teaches what\n")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]]
        for line in FAMILIES.splitlines() if line.startswith("| ")][1:]  # fmt: skip
STEPS = 4


def test_tables_are_the_committed_results() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    assert "<!-- end demo -->" in TEXT
    assert readme.filled(TEXT) == TEXT


# ---- what teaches what


@pytest.fixture
def names() -> dict[str, Any]:
    """What a line may name: all of limbeck, and networks for digits."""
    torch.manual_seed(0)
    return {
        **{name: getattr(limbeck, name) for name in limbeck.__all__},
        "student": zoo.small_cnn(10, 4),
        "teacher": zoo.small_cnn(10, 8),
        "a": zoo.mlp(10, 16),
        "b": zoo.mlp(10, 32),
        "vit": vit(32, 3, 2),
        "teacher_vit": vit(64, 4, 4),
    }


def vit(width: int, depth: int, heads: int) -> nn.Module:
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1}
    shape = {"embed_dim": width, "depth": depth, "num_heads": heads}
    return timm.create_model("vit_tiny_patch16_224", num_classes=10, **sizes, **shape)


@pytest.fixture(scope="module")
def digits() -> list[dict[str, Tensor]]:
    """A few batches of real digits."""
    images = open_images("digits:valid")
    ids = torch.arange(60 * STEPS).view(STEPS, 60)
    return [
        {"inputs": (images.fetch(rows) / 255 - 0.13) / 0.31, "target": images.labels[rows]}
        for rows in ids
    ]


def trained(made: Distiller | Mutual, digits: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The parts of the last of a few steps."""
    made.prepare(**digits[0])
    optimizer = torch.optim.SGD(made.parameters(), lr=0.02)
    for k, batch in enumerate(digits):
        made.advance(k / STEPS)
        step = made(**batch)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
    return step.parts


def chained(plan: list[Any], digits: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The parts of the last stage of a chain, those before it trained as well."""
    networks = {stage.name: copy.deepcopy(stage.model) for stage in plan}
    for stage in plan:
        teachers = {name: networks[name] for name in stage.teachers}
        each = [Match(losses.kl, source=name) for name in teachers]
        parts = trained(Distiller(networks[stage.name], teachers, sum(each, 1.0 * truth())), digits)
    return parts


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].replace(" ", "-"))
def test_the_line_of_a_family_trains_on_digits(
    row: list[str], names: dict[str, Any], digits: list[dict[str, Tensor]]
) -> None:
    made = eval(row[3].strip("`"), names)
    learns: Callable[..., Any] = chained if isinstance(made, list) else trained
    parts = learns(made, digits)
    assert len(parts) > 1 or row[0] == "plain training"
    assert all(bool(torch.isfinite(value)) and float(value) > 0 for value in parts.values())


def test_there_is_a_line_and_a_recipe_for_each_family() -> None:
    families = {method.family for method in limbeck.methods.ROWS} - {"sigmoid", "teachers"}
    assert families < {row[0] for row in ROWS}
    assert all(re.fullmatch(r"`[^`]+`", row[3]) for row in ROWS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_links_lead_to_files(target: str) -> None:
    assert target.startswith("https://") or (ROOT / target).exists()


def test_each_family_has_a_recipe_that_the_tests_run() -> None:
    for *_, cell in ROWS:
        (target,) = re.findall(r"\]\(([^)]+)\)", cell)
        assert (ROOT / target).parent == ROOT / "recipes/schemes"
        assert cell.startswith(f"[{Path(target).stem}]")
