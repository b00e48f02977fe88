"""Labels files: what they hold, how they are carved, withheld and mixed, and what is refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.recipe.raws import refused
from tests.tasks.pictures import COLOURS, SIDE, flags, write

from limbeck.data import Images, Loader, Mix, carve, flag, number, open_images, withhold
from limbeck.data.files import Files
from limbeck.data.table import open_table

each = pytest.mark.parametrize
MakeTable = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> MakeTable:
    """Writes a labels file with these lines beside two pictures."""

    def make(*lines: str, encoding: str = "utf-8") -> Path:
        for i in range(2):
            pixels = np.full((SIDE, SIDE, 3), 50 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        path = tmp_path / "labels.csv"
        path.write_bytes("\n".join(lines).encode(encoding))
        return path

    return make


def drawn(n: int = 30) -> Images:
    """Three targets an image, every fifth image without any."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.rand(n, 3, generator=generator).round()
    labels[::5] = math.nan
    return Images(pixels, labels, COLOURS)


# ---- what a file holds


def test_flags_and_gaps(table: MakeTable) -> None:
    path = table("image,car,rain", "1.png,1,", "", "0.png, 0 ,1", encoding="utf-8-sig")
    images = open_images(f"csv:{path}", cell=flag)
    assert images.classes == ("car", "rain")
    assert images.labels.tolist()[1] == [0, 1]
    assert images.labels[0, 0] == 1
    assert images.labels[0, 1].isnan()
    assert images.fetch(torch.tensor([0, 1]))[:, 0, 0, 0].tolist() == [50, 0]


def test_flags_as_a_table_with_gaps_writes_them(table: MakeTable) -> None:
    """Columns of numbers with gaps are often written as 1.0 and 0.0."""
    path = table("image,car,rain", "0.png,1.0,", "1.png,0.0,1.0")
    labels = open_images(f"csv:{path}", cell=flag).labels
    assert labels.nan_to_num(nan=-1).tolist() == [[1, -1], [0, 1]]


def test_numbers_and_images_without_any(table: MakeTable) -> None:
    images = open_images(f"csv:{table('image,age', '0.png,-1.5e2', '1.png,')}", cell=number)
    assert images.labels[0].tolist() == [-150]
    assert images.labelled.tolist() == [0]


def test_images_are_decoded_as_those_of_folders_are(tmp_path: Path) -> None:
    path = write(tmp_path, 3, flags, suffix="jpg")
    names = tuple(f"{i}.jpg" for i in range(3))
    expected = Files(tmp_path, names, 5).load()
    kept, read = (open_table(path, flag, image_size=5, memory=m) for m in (1 << 20, 0))
    assert (kept.in_memory, read.in_memory) == (True, False)
    assert torch.equal(kept.fetch(torch.arange(3)), expected)
    assert torch.equal(read.fetch(torch.arange(3)), expected)


def test_a_relative_path_is_below_the_root(tmp_path: Path) -> None:
    write(tmp_path / "set", 2, flags)
    assert len(open_images("csv:set/labels.csv", root=tmp_path, cell=flag)) == 2


def test_unreadable_images_are_left_out_on_request(table: MakeTable, tmp_path: Path) -> None:
    path = table("image,car", "0.png,1", "1.png,0", "gone.png,1")
    (tmp_path / "0.png").write_bytes(b"")
    images = open_table(path, flag, skip_corrupt=True)
    assert images.labels.tolist() == [[0]]
    assert [skipped.name for skipped in images.skipped] == ["0.png", "gone.png"]


def test_an_unreadable_image_is_named(table: MakeTable, tmp_path: Path) -> None:
    path = table("image,car", "0.png,1")
    (tmp_path / "0.png").write_bytes(b"")
    assert refused(open_table, path, flag).endswith(
        "0.png must be an image, but is empty (0 bytes)"
    )
    line = refused(open_table, path, flag, skip_corrupt=True)
    assert line == f"{path} must name an image that can be read, got none"


# ---- what is refused


@each(
    ("lines", "message"),
    [
        ([""], "labels.csv must begin with a header: a name for the column of paths, and"),
        (["image", "0.png"], "labels.csv must begin with a header: a name for the column of"),
        (["0.png,1", "1.png,0"], "labels.csv must begin with a header, but row 1 is about the"),
        (
            ["image,car,car", "0.png,1,1"],
            "labels.csv must name each target once in row 1, got 'car'",
        ),
        (["image,car,", "0.png,1,1"], "labels.csv must name each target once in row 1, got ''"),
        (["image,car"], "labels.csv must have a row for each image, got none below the header"),
        (["image,car", "0.png"], "row 2 must have a path and 1 targets (car), got '0.png'"),
        (["image,car", "0.png,1,0"], "row 2 must have a path and 1 targets (car), got '0.png,1,0'"),
        (["image,car", ",1"], "row 2 must have a path and 1 targets (car), got ',1'"),
        (["image,car", "0.png,1", "2.png,1"], "row 3 must name an image file, got 2.png"),
        (["image,car", "0.png,1", "", "1.png,2"], "row 4: car must be 0, 1 or empty, got '2'"),
        (["image,car", "0.png,0.5"], "row 2: car must be 0, 1 or empty, got '0.5'"),
        (["image,car", "0.png,yes"], "row 2: car must be 0, 1 or empty, got 'yes'"),
        (["image,car", '0.png,"1'], "labels.csv must be a CSV file in UTF-8, but unexpected end"),
    ],
)
def test_mistakes_are_told_with_file_and_row(
    table: MakeTable, lines: list[str], message: str
) -> None:
    path = table(*lines)
    line = refused(open_table, path, flag)
    assert str(path) in line
    assert message in line


@each("text", ["tall", "nan", "inf", "1,5", "1e39"])
def test_what_is_no_number(table: MakeTable, text: str) -> None:
    line = refused(open_table, table("image,age", f'0.png,"{text}"'), number)
    assert line.endswith(f"row 2: age must be a number or empty, got '{text}'")


def test_other_encodings_and_missing_files(table: MakeTable, tmp_path: Path) -> None:
    path = table("image,größe", "0.png,1", encoding="latin-1")
    assert f"{path} must be a CSV file in UTF-8, but" in refused(open_table, path, flag)
    line = refused(open_table, tmp_path / "none.csv", flag)
    assert line == f"csv must name a file, {tmp_path / 'none.csv'}: no such file or directory"
    assert refused(open_images, "csv:", cell=flag) == "csv must name a file, .: is a directory"


def test_targets_and_classes_are_not_mistaken_for_each_other() -> None:
    line = refused(open_images, "digits:train", cell=flag)
    assert line == "data must be csv:PATH for several targets an image, got 'digits:train'"
    assert refused(open_images, "csv:a.csv").endswith(
        "got 'csv:a.csv'; a csv needs task: multilabel or task: regression"
    )


def test_targets_have_a_column_for_each_class() -> None:
    images = drawn()
    for wrong in (images.labels[:, :2], images.labels.double()):
        assert "`labels` must be float32 (30, 3), a target" in refused(
            replace, images, labels=wrong
        )


# ---- parts, labels that are withheld, mixed targets


def test_a_part_is_carved_at_random() -> None:
    images = drawn()
    train, valid = carve(images, 0.3, seed=0)
    assert (len(train), len(valid)) == (21, 9)
    both = torch.cat([train.pixels, valid.pixels])  # pyrefly: ignore
    order = [int((images.pixels == x).flatten(1).all(1).nonzero()) for x in both]
    assert sorted(order) == list(range(30))
    assert order[:21] == sorted(order[:21])
    assert order != list(range(30))
    assert torch.equal(carve(images, 0.3, seed=0)[1].pixels, valid.pixels)
    assert not torch.equal(carve(images, 0.3, seed=1)[1].pixels, valid.pixels)


def test_one_image_cannot_be_carved() -> None:
    assert refused(carve, drawn(1), 0.5, 0) == "carving needs two images, got 1"


def test_labels_are_withheld_by_rows() -> None:
    images = drawn()
    few, more = withhold(images, 4, seed=0), withhold(images, 9, seed=0)
    assert (len(few.labelled), len(more.labelled), len(few)) == (4, 9, 30)
    assert set(few.labelled.tolist()) < set(more.labelled.tolist()) < set(images.labelled.tolist())
    assert torch.equal(few.labels[few.labelled], images.labels[few.labelled])
    assert few.labels.isnan().all(1).sum() == 26
    assert refused(withhold, images, 25, 0) == "`labels` must be 1 to 24 (all), got 25"


def test_targets_mix_as_pixels_do_and_the_unknown_stays_unknown() -> None:
    images = drawn(8)
    batch = next(Loader(images, 8, seed=0, mix=Mix(mixup=1.0)).epoch(0))
    partner = torch.arange(8) ^ 1
    own, other = images.labels[batch.ids], images.labels[batch.ids[partner]]
    mixed, a, b = (
        x.float().mean((1, 2, 3))
        for x in (batch.images, images.fetch(batch.ids), images.fetch(batch.ids[partner]))
    )
    weight = ((mixed - b) / (a - b))[:, None]
    torch.testing.assert_close(
        batch.target, weight * own + (1 - weight) * other, equal_nan=True, rtol=1e-3, atol=1e-3
    )
    assert torch.equal(batch.target.isnan(), own.isnan() | other.isnan())
    assert 0 < int(batch.target.isnan().sum()) < 24
