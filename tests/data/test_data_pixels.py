"""What a picture's samples mean: deep integers by their depth, floats refused by name, the rest as in ImageFolder."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from support.images import small_images
from support.images import synthetic_images as synthetic

from dnw_core.data.datasets import image_folder
from dnw_core.data.formats.encoded import FolderFiles
from dnw_core.data.formats.jpeg import decode_checked, decode_rgb
from dnw_core.data.opening import open_feeds
from dnw_core.data.streaming.piece import DecodeTask, decode_piece
from dnw_core.errors import DataBrokenError

HEIGHT, WIDTH = 40, 64
RAMP = np.tile(np.linspace(0, 1, WIDTH), (HEIGHT, 1))
WANTED = (RAMP * 65535).astype(np.uint16) >> 8  # the high byte of the ramp in 16 bits


def saved(values: npt.NDArray[Any] | Image.Image, kind: str = "TIFF", **how: Any) -> bytes:
    """Return the values as a file of their own type."""
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def retagged(content: bytes, tag: int, value: int) -> bytes:
    """Return a little-endian TIFF in which a number says another thing: what Pillow reads, but does not write."""
    entries = [struct.pack("<HHI", tag, size, 1) for size in (3, 4)]  # a short or a long
    [start] = [content.index(entry) + 8 for entry in entries if entry in content]
    return content[:start] + struct.pack("<H", value) + content[start + 2 :]


def packed_12_bits() -> bytes:
    """Return the ramp in a TIFF with 12 bits a sample."""
    values = (RAMP * 4095).astype(np.uint16)
    first, second = values[:, 0::2], values[:, 1::2]
    rows = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)
    return retagged(retagged(saved(rows.reshape(HEIGHT, -1)), 256, WIDTH), 258, 12)


def png_of_16_bits(colour: int, samples: int) -> bytes:
    """Return the ramp as a PNG with several samples of 16 bits."""
    rows = np.repeat((RAMP * 65535).astype(">u2")[..., None], samples, axis=2)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def fits_of_16_bits() -> bytes:
    """Return the ramp as a picture of astronomers."""
    cards = ("SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", f"NAXIS1  = {WIDTH}", f"NAXIS2  = {HEIGHT}", "END")
    return "".join(card.ljust(80) for card in cards).ljust(2880).encode() + signed(16).astype(">i2").tobytes()


def unsigned(bits: int) -> npt.NDArray[Any]:
    """Return the ramp over all values of so many bits."""
    return (RAMP * (2**bits - 1)).astype(f"u{bits // 8}")


def signed(bits: int) -> npt.NDArray[Any]:
    """Return the ramp over all values that are not negative."""
    return (RAMP * (2 ** (bits - 1) - 1)).astype(f"i{bits // 8}")


BIG_ENDIAN = Image.frombytes("I;16B", (WIDTH, HEIGHT), unsigned(16).astype(">u2").tobytes())
GREY_16 = saved(unsigned(16))
FLOATS = saved(RAMP.astype(np.float32))
DEEP: dict[str, bytes] = {
    "PNG of 16 bits": saved(unsigned(16), "PNG"),
    "PNG of 16 bits, grey with transparency": png_of_16_bits(4, 2),
    "PNG of 16 bits, colour": png_of_16_bits(2, 3),
    "PNG of 16 bits, colour with transparency": png_of_16_bits(6, 4),
    "TIFF of 16 bits": GREY_16,
    "TIFF of 16 bits, big-endian": saved(BIG_ENDIAN),
    "TIFF of 16 bits, signed": retagged(saved(signed(16).view(np.uint16), tiffinfo={339: 2}), 339, 2),
    "TIFF of 16 bits, 0 is white": retagged(saved(65535 - unsigned(16)), 262, 0),
    "TIFF of 12 bits": packed_12_bits(),
    "TIFF of 32 bits, signed": saved(signed(32)),
    "TIFF of 32 bits, unsigned": retagged(saved(unsigned(32).view(np.int32)), 339, 1),
    "PGM of 16 bits": b"P5 64 40 65535\n" + unsigned(16).astype(">u2").tobytes(),
    "PGM of 12 bits": b"P5 64 40 4095\n" + (RAMP * 4095).astype(">u2").tobytes(),
}


@pytest.mark.parametrize("name", DEEP)
def test_integers_are_scaled_by_their_depth(name: str) -> None:
    """A ramp from black to white is one, whatever the format, the depth, the sign and the order of the bytes."""
    pixels = decode_checked(DEEP[name])
    assert pixels.dtype == np.uint8
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - WANTED[..., None]).max() <= 1
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("factor", [256, 257])
def test_eight_bits_in_sixteen_lose_nothing(factor: int) -> None:
    """Whichever way a picture of 8 bits was written with 16, shifted or repeated, it comes out as it was."""
    values = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decode_checked(saved(values * np.uint16(factor), kind))[..., 1], values)


def test_black_may_be_black() -> None:
    """A picture of 16 bits without any light is no mistake."""
    assert not decode_checked(saved(np.zeros((HEIGHT, WIDTH), np.uint16))).any()


REFUSED: dict[str, tuple[bytes, str]] = {
    "floats": (FLOATS, "its samples are floats, which do not say what is white: save it as grey or RGB of 8 or 16"),
    "not a number": (saved(np.full((4, 4), np.nan, np.float32)), "its samples are floats"),
    "a million of 32 bits": (saved((RAMP * 1e6).astype(np.int32)), r"reach 1,000,000 only, and white is 2,147,483,647"),
    "12 bits in 16": (
        saved((RAMP * 4095).astype(np.uint16), "PNG"),
        "reach 4,095 only, and white is 65,535 in 16 bits",
    ),
    "8 bits in 16": (saved((RAMP * 255).astype(np.uint16)), "reach 255 only, and white is 65,535"),
    "negative": (saved((RAMP * 1000).astype(np.int32) - 9), r"negative values \(down to -9\)"),
    "8 bits, signed": (retagged(saved(unsigned(8), tiffinfo={339: 2}), 339, 2), "signed, of 8 bits"),
    "another format": (fits_of_16_bits(), "deep integers in a FITS file, without a depth"),
    "floats of 64 bits": (retagged(FLOATS, 258, 64), "a damaged TIFF, or one of samples that Pillow does not read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_say_what_is_white_is_refused(name: str) -> None:
    """By name, in one sentence; never nearly white or black without a word."""
    content, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as error:
        decode_checked(content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["floats", "a million of 32 bits", "12 bits in 16", "negative"])
def test_what_is_refused_can_be_looked_at(name: str) -> None:
    """The decoder itself stretches it from its least to its greatest value: the ramp is seen."""
    pixels = decode_rgb(REFUSED[name][0]).astype(int)
    assert np.abs(pixels - WANTED[..., None]).max() <= 2


HELD = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in HELD.items() for mode in modes])
def test_samples_of_eight_bits_are_imagefolders(kind: str, mode: str) -> None:
    """Every mode that a format holds is what ``convert("RGB")`` gives, transparency left out."""
    picture = synthetic.picture(3, HEIGHT, WIDTH)
    if mode == "LAB":
        image = Image.frombytes("LAB", picture.size, picture.tobytes())
    else:
        clear = picture.convert("RGBA")
        clear.putalpha(Image.fromarray(unsigned(8)))
        image = clear.convert(mode)
    content = saved(image, kind)
    assert np.array_equal(decode_checked(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("transparency", [3, bytes(range(255, -1, -1))])
def test_transparent_palettes_are_imagefolders(transparency: int | bytes) -> None:
    """One transparent colour, or one opacity for each: the palette's colours."""
    image = synthetic.picture(3, HEIGHT, WIDTH).convert("P")
    content = saved(image, "PNG", transparency=transparency)
    assert np.array_equal(decode_checked(content), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture_is_read(kind: str) -> None:
    """As ImageFolder does it, and with a file of many pages."""
    first, second = (Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue"))
    how = {"lossless": True} if kind == "WEBP" else {}
    content = saved(first, kind, save_all=True, append_images=[second], **how)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert np.array_equal(decode_checked(content), np.asarray(first))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turns_what_it_turns_in_imagefolder(kind: str) -> None:
    """An orientation that wants a quarter turn is ignored, but in TIFF, which Pillow turns itself."""
    exif = Image.Exif()
    exif[274] = 6
    content = saved(synthetic.picture(3, HEIGHT, WIDTH), kind, exif=exif)
    pixels = decode_checked(content)
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    assert pixels.shape == ((WIDTH, HEIGHT, 3) if kind == "TIFF" else (HEIGHT, WIDTH, 3))


def beside(root: Path, content: bytes, name: str = "deep.tif") -> Path:
    """Put a file among the images of a folder."""
    path = synthetic.write_folder(root) / "train" / "dog" / name
    path.write_bytes(content)
    return path


def in_folder(tmp_path: Path, content: bytes) -> None:
    """A folder with the file."""
    beside(tmp_path / "images", content)


def in_shards(tmp_path: Path, content: bytes) -> None:
    """Shards with the file."""
    beside(tmp_path / "folder", content)
    synthetic.write_shards(tmp_path / "folder", tmp_path / "images")


@pytest.mark.parametrize("lay_out", [in_folder, in_shards])
def test_the_check_looks_at_the_samples(lay_out: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    """Before anything is trained: file and reason in one line, from a folder and from shards."""
    lay_out(tmp_path, FLOATS)
    with pytest.raises(DataBrokenError, match=r"1 of 31 images .*dog/deep.tif \(its samples are floats.*") as error:
        open_feeds(synthetic.recipe(), synthetic.execution(tmp_path), torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_a_file_that_changes_after_the_check_is_named(tmp_path: Path) -> None:
    """Training does not see floats either."""
    path = beside(tmp_path, FLOATS)
    piece = DecodeTask(FolderFiles(path.parent, [path.name]), size=32)
    with pytest.raises(DataBrokenError, match=r"deep.tif is unreadable: its samples are floats"):
        decode_piece(piece, np.empty((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("lay_out", [in_folder, in_shards])
def test_deep_pictures_are_trained_and_evaluated_on(lay_out: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    """The pixels that a network gets of a picture of 16 bits are the scaled ones, from a folder and from shards."""
    lay_out(tmp_path, GREY_16)
    files = image_folder.open_images(synthetic.execution(tmp_path)).train.files
    [row] = [row for row in range(len(files)) if files.read(row) == GREY_16]
    pixels = np.empty((1, 32, 32, 3), np.uint8)
    decode_piece(DecodeTask(files.select([row]), size=32), pixels)
    assert 20 < pixels[0, 0, 0, 0] < 70
    assert 100 < pixels.mean() < 155


def test_preparing_keeps_the_ramp_and_names_floats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A prepared shard has 16 bits scaled to 8; floats end the command with their name, and nothing is made of them."""
    source = small_images.write_folder(tmp_path / "source")
    deep, floats = (source / "train" / "cat" / name for name in ("deep.png", "floats.tiff"))
    deep.write_bytes(DEEP["PNG of 16 bits"])
    floats.write_bytes(FLOATS)
    assert small_images.run(source, tmp_path / "out", *small_images.QUICK) == 2
    assert "train/cat/floats.tiff: its samples are floats" in capsys.readouterr().err
    floats.unlink()
    assert small_images.run(source, tmp_path / "out", *small_images.QUICK) == 0
    [row] = [row for row in small_images.rows(tmp_path / "out", "train") if row["image"]["path"] == "cat/deep.png"]
    assert np.abs(decode_checked(row["image"]["bytes"]).astype(int) - WANTED[..., None]).max() <= 12
