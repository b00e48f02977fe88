import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from limbeck.data import cifar, idx, open_images
from limbeck.errors import LimbeckError


def test_digits_come_in_three_parts_that_share_nothing():
    parts = {p: open_images(f"digits:{p}") for p in ("train", "valid", "test")}
    assert {p: len(images) for p, images in parts.items()} == {
        "train": 2000,
        "valid": 500,
        "test": 2500,
    }
    for images in parts.values():
        assert torch.bincount(images.labels).unique().tolist() == [len(images) // 10]
        assert images.pixels.shape[1:] == (1, 28, 28)
        assert images.classes == tuple("0123456789")
    rows = [row.numpy().tobytes() for images in parts.values() for row in images.pixels]
    assert len(set(rows)) == 5000


def test_the_parts_of_digits_never_move():
    """Published numbers refer to this split."""
    sums = [int(open_images(f"digits:{p}").pixels.long().sum()) for p in ("train", "valid", "test")]
    assert sums == [52228499, 13236590, 65802013]


def test_a_name_without_part_is_the_training_part():
    assert torch.equal(open_images("digits").pixels, open_images("digits:train").pixels)


def test_sets_in_memory_come_in_another_size():
    images = open_images("digits:valid", image_size=32)
    assert images.pixels.shape == (500, 1, 32, 32)
    plain = open_images("digits:valid").pixels.float().mean()
    assert images.pixels.float().mean() == pytest.approx(plain.item(), rel=0.02)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_fashion(folder: Path) -> np.ndarray:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28))
    for prefix in ("train", "t10k"):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.arange(7))
    return images


@pytest.mark.parametrize("below", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_fashion_mnist_from_a_folder(tmp_path, below, part):
    pixels = write_fashion(tmp_path / "sets" / below)
    images = open_images(f"fashion-mnist:{part}@sets", root=tmp_path)
    assert np.array_equal(images.pixels[:, 0], pixels)
    assert images.labels.tolist() == list(range(7))
    assert images.classes[9] == "Ankle boot"


def test_fashion_mnist_from_the_debian_package(tmp_path, monkeypatch):
    write_fashion(tmp_path / "share")
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "share")
    assert len(open_images("fashion-mnist", root=tmp_path)) == 7


def test_fashion_mnist_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "share")
    with pytest.raises(LimbeckError, match=r"train-images-.*looked in .*dataset-fashion-mnist.*@"):
        open_images("fashion-mnist", root=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain bytes", "it is damaged"),
        (gzip.compress(b"\0" * 64, mtime=0)[:20], "it is damaged"),
        (gzip.compress(b"\0" * 64, mtime=0), "must be an idx file of 3 dimensions"),
        (gzip.compress(b"\0", mtime=0), "must be an idx file of 3 dimensions"),
        (
            gzip.compress(struct.pack(">4I", 0x803, 2, 28, 28) + b"\0" * 9, mtime=0),
            "must hold 1568 bytes",
        ),
    ],
    ids=["no gzip", "cut short", "three numbers missing", "all but empty", "too few bytes"],
)
def test_a_damaged_idx_file_is_named(tmp_path, content, message):
    write_fashion(tmp_path / "x")
    (tmp_path / "x" / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(LimbeckError, match=rf"train-images-idx3-ubyte\.gz .*{message}"):
        open_images("fashion-mnist@x", root=tmp_path)


def write_cifar(folder: Path, protocol: int = 2) -> np.ndarray:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 20, 3072)).astype(np.uint8)
    for name, data in zip([*cifar.BATCHES["train"], "test_batch"], pixels, strict=True):
        batch = {b"data": data, b"labels": [i % 10 for i in range(20)], b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return pixels


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("where", ["cifar10:train", "cifar10@cifar-10-batches-py"])
def test_cifar10_in_the_layout_of_torchvision(tmp_path, protocol, where):
    pixels = write_cifar(tmp_path / cifar.FOLDER, protocol)
    images = open_images(where, root=tmp_path)
    assert np.array_equal(images.pixels.flatten(), pixels[:5].ravel())
    assert images.labels.tolist() == [i % 10 for i in range(20)] * 5
    assert images.classes[3] == "cat"
    assert len(open_images("cifar10:test", root=tmp_path)) == 20


def python_2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """What the published batches look like: byte strings, `numpy.core`, numbers for booleans."""
    body = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K%cM%b\x86" % (len(pixels), struct.pack("<H", pixels.shape[1]))
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T%b%btb" % (struct.pack("<I", len(body)), body)
    )
    numbers = b"](" + b"".join(b"K%c" % i for i in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def test_cifar10_as_python_2_pickled_it(tmp_path):
    pixels = write_cifar(tmp_path / cifar.FOLDER)[0, :3]
    (tmp_path / cifar.FOLDER / "test_batch").write_bytes(python_2_batch(pixels, [6, 9, 9]))
    images = open_images("cifar10:test", root=tmp_path)
    assert np.array_equal(images.pixels.flatten(1), pixels)
    assert images.labels.tolist() == [6, 9, 9]


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({b"data": Trap(), b"labels": []}), "refused: it asks for"),
        (pickle.dumps({b"data": np.zeros((2, 9), np.uint8), b"labels": [0, 1]}), "3072 bytes"),
        (pickle.dumps([1, 2]), "must be a batch of CIFAR-10"),
        (b"", "must be a batch of CIFAR-10"),
    ],
)
def test_a_batch_that_is_something_else_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path / cifar.FOLDER)
    (tmp_path / cifar.FOLDER / "data_batch_3").write_bytes(content)
    with pytest.raises(LimbeckError, match=rf"data_batch_3 .*{message}"):
        open_images("cifar10")
    assert not (tmp_path / "sprung").exists()


def test_no_other_codec_than_latin1_is_run():
    with pytest.raises(pickle.UnpicklingError, match="codec zip"):
        cifar.latin1("x", "zip")


def test_cifar10_with_a_batch_missing(tmp_path):
    write_cifar(tmp_path / cifar.FOLDER)
    (tmp_path / cifar.FOLDER / "data_batch_5").unlink()
    with pytest.raises(LimbeckError, match="data_batch_5 is missing"):
        open_images("cifar10", root=tmp_path)


def test_cifar10_that_is_nowhere(tmp_path):
    with pytest.raises(LimbeckError, match=r"data_batch_1, looked in .*cifar10:train@download"):
        open_images("cifar10", root=tmp_path)


def test_only_download_uses_torchvision(tmp_path, monkeypatch):
    asked = []

    def fashion(root: str, train: bool, download: bool) -> None:
        asked.append((root, train, download))
        write_fashion(Path(root) / "FashionMNIST" / "raw")

    def cifar10(root: str, train: bool, download: bool) -> None:
        asked.append((root, train, download))
        write_cifar(Path(root) / cifar.FOLDER)

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fashion)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", cifar10)
    assert len(open_images("fashion-mnist:test@download", root=tmp_path)) == 7
    assert len(open_images("cifar10:train@download", root=tmp_path)) == 100
    assert asked == [(str(tmp_path), False, True), (str(tmp_path), True, True)]
    open_images("fashion-mnist", root=tmp_path)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digts:train", "data must be digits, .*got 'digts:train'; did you mean 'digits'?"),
        ("digits:val", "digits has train, valid, test, got 'val'; did you mean 'valid'?"),
        ("cifar10:valid", "cifar10 has train, test, got 'valid'; a validation part is carved"),
        ("digits:train@x", "must be without '@' or name a folder"),
        ("cifar10@", "must be without '@' or name a folder"),
        ("folder:", "data must be digits, .* got 'folder:'"),
        ("", "data must be digits, .* got ''"),
    ],
)
def test_names_that_mean_nothing(name, message):
    with pytest.raises(LimbeckError) as caught:
        open_images(name)
    caught.match(message)
    assert "\n" not in str(caught.value)


def test_a_bare_path_is_told_its_prefix(tmp_path):
    with pytest.raises(LimbeckError, match=f"did you mean 'folder:{tmp_path}'"):
        open_images(str(tmp_path))
