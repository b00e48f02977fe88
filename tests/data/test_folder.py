from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from limbeck.data import Augment, open_folder, open_images, scan, withhold
from limbeck.errors import LimbeckError

AUGMENTS = [Augment(resized_crop=(0.2, 1.0), flip=True), Augment(crop=2, flip=True)]


def test_layout_is_that_of_image_folder(make_folder):
    path = make_folder(dog=2, cat=3, Ant=1)
    (path / "cat" / "deep").mkdir()
    (path / "cat" / "1.jpg").rename(path / "cat" / "deep" / "x.JPG")
    ours, theirs = open_folder(path, memory=0), ImageFolder(str(path))
    assert ours.classes == tuple(theirs.classes) == ("Ant", "cat", "dog")
    assert ours.labels.tolist() == theirs.targets
    assert sorted(str(ours.pixels.path(i)) for i in range(6)) == sorted(p for p, _ in theirs.imgs)


def test_what_is_no_image_is_passed_over(make_folder):
    path = make_folder(a=1, b=1)
    for name in ("notes.txt", "Thumbs.db", "._0.jpg"):
        (path / "a" / name).write_text("no image")
    (path / ".ipynb_checkpoints").mkdir()
    (path / "README.md").write_text("no class")
    assert len(open_folder(path)) == 2


def test_memory_and_files_give_the_same_pixels(make_folder):
    path = make_folder(width=40, height=30, a=3, b=2)
    kept = open_images(f"folder:{path}", image_size=16)
    decoded = open_images(f"folder:{path}", image_size=16, memory=0)
    ids = torch.tensor([4, 0, 4])
    assert kept.in_memory
    assert not decoded.in_memory
    assert kept.fetch(ids).shape == (3, 3, 16, 16)
    assert torch.equal(kept.fetch(ids), decoded.fetch(ids))


def test_the_limit_counts_decoded_bytes(make_folder):
    path = make_folder(a=2)
    assert open_folder(path, image_size=8, memory=2 * 3 * 64).in_memory
    assert not open_folder(path, image_size=8, memory=2 * 3 * 64 - 1).in_memory
    assert not open_folder(path, memory=2 * 3 * 20 * 16 - 1).in_memory


def test_evaluation_view_is_that_of_torchvision(make_folder, picture):
    path = make_folder(width=150, height=100, a=1)
    ours = open_folder(path, image_size=56).fetch(torch.tensor([0]))[0]
    theirs = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56)])
    expected = np.array(theirs(Image.open(path / "a" / "0.jpg"))).transpose(2, 0, 1)
    assert np.abs(ours.numpy().astype(int) - expected).mean() < 1.5


def test_small_images_are_shown_whole_and_fitting_ones_untouched(make_folder, tmp_path):
    small = make_folder("small", width=16, height=16, a=1)
    out = open_folder(small, image_size=32).fetch(torch.tensor([0]))[0]
    expected = Image.open(small / "a" / "0.jpg").resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(out.permute(1, 2, 0), np.array(expected))
    same = open_folder(small, image_size=16).fetch(torch.tensor([0]))[0]
    assert np.array_equal(same.permute(1, 2, 0), np.array(Image.open(small / "a" / "0.jpg")))


def test_sizes_that_differ_need_an_image_size(make_folder, picture):
    path = make_folder(a=2)
    picture(9, 10, 10).save(path / "a" / "2.jpg")
    with pytest.raises(LimbeckError, match=r"one size, .*2\.jpg is 10x10 and .*0\.jpg is 20x16"):
        open_folder(path)
    assert open_folder(path, image_size=8).fetch(torch.arange(3)).shape == (3, 3, 8, 8)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_b101_file_augmentation_depends_on_id_and_view_alone(make_folder, augment):
    images = open_folder(make_folder(width=40, height=30, a=3, b=3), image_size=16, memory=0)
    ids = torch.arange(6)
    together = images.augmented(ids, augment, 0, 4)
    assert together.shape == (6, 3, 16, 16)
    apart = images.augmented(ids[[5, 2]], augment, 0, 4)
    assert torch.equal(apart, together[[5, 2]])
    assert not torch.equal(together, images.augmented(ids, augment, 0, 5))


def test_resized_crop_of_a_file_sees_the_whole_image(make_folder):
    """The evaluation view of a wide image lacks its sides; training crops reach them."""
    path = make_folder(width=60, height=20, a=1)
    image = Image.new("RGB", (60, 20), "black")
    image.paste("white", (0, 0, 15, 20))
    image.save(path / "a" / "0.jpg")
    images = open_folder(path, image_size=16, memory=0)
    assert images.fetch(torch.tensor([0])).max() < 30
    views = [
        images.augmented(torch.tensor([0]), Augment(resized_crop=(0.1, 0.3)), 0, v)
        for v in range(20)
    ]
    assert torch.cat(views).max() > 220


def test_withheld_labels_of_files_keep_the_files(make_folder):
    images = open_folder(make_folder(a=4, b=4), memory=0)
    assert withhold(images, 2, seed=0).pixels is images.pixels


def test_a_missing_folder(tmp_path):
    with pytest.raises(LimbeckError, match=r"folder must hold .*nowhere does not exist$"):
        open_images("folder:nowhere", root=tmp_path)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "x.jpg").touch()
    with pytest.raises(LimbeckError, match=r"x\.jpg is a file"):
        open_folder(tmp_path / "x.jpg")


def test_an_empty_folder(tmp_path):
    with pytest.raises(LimbeckError, match=r"one sub-folder for each class, .* has none$"):
        open_folder(tmp_path)


def test_a_folder_of_splits(make_folder):
    path = make_folder("train", a=1).parent
    (path / "val").mkdir()
    with pytest.raises(LimbeckError, match=r"holds splits \(train, val\); .*folder:.*train$"):
        open_folder(path)


def test_an_empty_class(make_folder):
    path = make_folder(a=1, b=0, c=1)
    (path / "b" / "notes.txt").touch()
    with pytest.raises(LimbeckError, match=r"every class must have an image, .*train/b; add"):
        open_folder(path)


@pytest.fixture
def damaged(make_folder) -> Path:
    path = make_folder(a=4, b=2)
    (path / "a" / "1.jpg").write_bytes(b"")
    (path / "a" / "2.jpg").write_bytes((path / "a" / "2.jpg").read_bytes()[:400])
    (path / "b" / "0.jpg").write_text("these are not the pixels")
    return path


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a/1.jpg", "is empty (0 bytes)"),
        ("a/2.jpg", "is damaged (Truncated"),
        ("b/0.jpg", "has no format that Pillow knows"),
    ],
)
def test_an_unreadable_image_is_named_when_it_is_decoded(damaged, name, fault):
    images = open_folder(damaged, image_size=8, memory=0)
    place = images.pixels.names.index(name)
    with pytest.raises(LimbeckError) as caught:
        images.fetch(torch.tensor([place]))
    assert str(damaged / name) in str(caught.value)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_that_vanished_is_named(make_folder):
    images = open_folder(make_folder(a=1), image_size=8, memory=0)
    (images.pixels.path(0)).unlink()
    with pytest.raises(LimbeckError, match=r"0\.jpg must be an image, but cannot be read"):
        images.fetch(torch.tensor([0]))


def test_a_set_in_memory_meets_the_unreadable_image_at_once(damaged):
    with pytest.raises(LimbeckError, match=r"a/1\.jpg must be an image"):
        open_folder(damaged, image_size=8)


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_skip_corrupt_lists_and_leaves_out(damaged, memory):
    images = open_folder(damaged, image_size=8, skip_corrupt=True, memory=memory)
    skipped = ["a/1.jpg", "a/2.jpg", "b/0.jpg"]
    assert [str(p.relative_to(damaged)) for p in images.skipped] == skipped
    assert images.labels.tolist() == [0, 0, 1]
    assert images.fetch(torch.arange(3)).shape == (3, 3, 8, 8)


def test_scan_finds_what_cannot_be_read(damaged):
    assert scan(open_folder(damaged, image_size=8, memory=0).pixels) == [1, 2, 4]


def test_a_class_of_unreadable_images_is_an_empty_class(damaged):
    (damaged / "b" / "1.jpg").unlink()
    with pytest.raises(LimbeckError, match=r"every class must have an image, .*train/b;"):
        open_folder(damaged, image_size=8, skip_corrupt=True)
