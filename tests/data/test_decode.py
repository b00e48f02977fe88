import numpy as np
import pytest
from PIL import Image

from limbeck.data.files import decode


def near(image: Image.Image, x: int, y: int, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.array(image)[y, x].astype(int) - colour).max() <= 12)


@pytest.fixture
def halves() -> Image.Image:
    """Left red, right blue."""
    image = Image.new("RGB", (32, 16), "red")
    image.paste("blue", (16, 0, 32, 16))
    return image


def test_the_exif_orientation_is_followed(tmp_path, halves):
    exif = Image.Exif()
    exif[0x0112] = 6
    halves.save(tmp_path / "x.jpg", exif=exif, quality=95, subsampling=0)
    image = decode(tmp_path / "x.jpg")
    assert image.size == (16, 32)
    assert near(image, 8, 3, (255, 0, 0))
    assert near(image, 8, 28, (0, 0, 255))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_has_three_equal_channels(tmp_path, mode):
    Image.new("L", (4, 4), 255).convert(mode).save(tmp_path / "x.png")
    image = decode(tmp_path / "x.png")
    assert image.mode == "RGB"
    assert near(image, 1, 1, (255, 255, 255))


def test_cmyk_keeps_its_colours(tmp_path, halves):
    halves.convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    image = decode(tmp_path / "x.jpg")
    assert near(image, 3, 8, (255, 0, 0))
    assert near(image, 28, 8, (0, 0, 255))


def test_a_palette_keeps_its_colours(tmp_path, halves):
    halves.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "x.png")
    image = decode(tmp_path / "x.png")
    assert near(image, 3, 8, (255, 0, 0))
    assert near(image, 28, 8, (0, 0, 255))


def test_transparent_pixels_are_white(tmp_path):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 255, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    image.save(tmp_path / "x.png")
    out = decode(tmp_path / "x.png")
    assert near(out, 0, 0, (255, 255, 255))
    assert near(out, 1, 0, (127, 127, 127))
    assert near(out, 2, 2, (255, 0, 0))


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_transparent_palette_entries_are_white(tmp_path, transparency):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "x.png", transparency=transparency)
    out = decode(tmp_path / "x.png")
    assert near(out, 0, 0, (255, 255, 255))
    assert near(out, 2, 2, (255, 0, 0))


def test_sixteen_bit_grey_keeps_its_upper_bits(tmp_path):
    ramp = np.array([[0, 32768], [65535, 256]], dtype=np.uint16)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    assert np.array(decode(tmp_path / "x.png"))[..., 1].tolist() == [[0, 128], [255, 1]]
