import io
import os
import socket
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

from selftaught.data import decode as module
from selftaught.data.decode import MEGAPIXELS, Broken, decode, size


def photograph(height=48, width=64, channels=3):
    """A smooth image with nothing flat in it: uint8 (H, W, 3) or (H, W)."""
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image if channels == 3 else image.convert("L"))


def encoded(array, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def written(tmp_path, data, name="x.jpg"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def grey(tmp_path, image, name):
    """One value a pixel, through decode with one channel and with three."""
    image.save(tmp_path / name)
    one, three = decode(tmp_path / name, 1), decode(tmp_path / name, 3)
    assert one.dtype == three.dtype == torch.uint8
    assert one.shape[0] == 1
    assert torch.equal(one.expand(3, -1, -1), three)
    return one[0].flatten().tolist()


def test_pixels_are_those_of_the_file(tmp_path):
    array = photograph()
    path = written(tmp_path, encoded(array, "PNG"), "x.png")
    assert torch.equal(decode(path, 3), torch.from_numpy(array.copy()).permute(2, 0, 1))
    luma = np.asarray(Image.fromarray(array).convert("L"))
    assert torch.equal(decode(path, 1)[0], torch.from_numpy(luma.copy()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_formats(tmp_path, kind):
    path = written(tmp_path, encoded(photograph(), kind))
    assert decode(path, 3).shape == (3, 48, 64)
    assert size(path) == (48, 64, 3)


# D1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}])
def test_a_jpeg_cut_anywhere_is_broken(tmp_path, options):
    data = encoded(photograph(), **options)
    decode(written(tmp_path, data), 3)
    for kept in range(1, len(data), len(data) // 60):
        with pytest.raises(Broken):
            decode(written(tmp_path, data[:kept]), 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_another_format_cut_is_broken_or_whole(tmp_path, kind):
    data = encoded(photograph(), kind)
    whole = decode(written(tmp_path, data), 3)
    broken = 0
    for kept in range(1, len(data), len(data) // 60):
        try:
            assert torch.equal(decode(written(tmp_path, data[:kept]), 3), whole)
        except Broken:
            broken += 1
    assert broken >= 58


def test_a_truncated_jpeg_says_so_in_one_line(tmp_path):
    data = encoded(photograph())
    with pytest.raises(Broken, match=r"^truncated JPEG \(image file is truncated .*\)$"):
        decode(written(tmp_path, data[:-200]), 3)


def test_a_global_switch_of_pillow_does_not_let_truncated_files_in(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for kind in ("JPEG", "PNG", "BMP"):
        with pytest.raises(Broken):
            decode(written(tmp_path, encoded(photograph(), kind)[:-200]), 3)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tail", [b"\0" * 4000, b"\xff\xd9"], ids=["zeros", "a new end"])
def test_a_jpeg_whose_data_end_early_is_never_half_grey(tmp_path, tail, channels):
    data = encoded(photograph(channels=channels), quality=95, subsampling=0)
    for cut in (300, len(data) // 3, len(data) // 2):
        spoilt = data[:-cut] + tail
        Image.open(io.BytesIO(spoilt)).load()  # Pillow alone finds nothing wrong
        with pytest.raises(Broken, match="truncated JPEG"):
            decode(written(tmp_path, spoilt), channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_whole_jpeg_that_ends_in_mid_grey_is_good(tmp_path, options, channels):
    array = photograph(128, 160, channels).copy()
    array[64:] = 128
    data = encoded(array, **options)
    assert (decode(written(tmp_path, data), channels)[:, -1, -1] == 128).all()


def test_a_jpeg_followed_by_something_else_is_good(tmp_path):
    """As motion photographs are: a film after the end marker."""
    data = encoded(photograph())
    film = np.random.default_rng(0).bytes(20_000) + b"\xff\xda"
    assert torch.equal(
        decode(written(tmp_path, data + film), 3), decode(written(tmp_path, data), 3)
    )


# D2, D8, D10, D12


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not an image"),
        (b"PK\x03\x04" + bytes(100), "not an image"),
        (b"", "empty file"),
        (b"\xff\xd8\xff", "not an image"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
            "not an im",
        ),
    ],
    ids=["html", "zip", "empty", "three bytes", "eps"],
)
def test_what_is_not_an_image(tmp_path, data, reason):
    for name in ("x.jpg", "x.eps"):
        path = written(tmp_path, data, name)
        for read in (size, lambda path: decode(path, 3)):
            with pytest.raises(Broken, match=f"^{reason}"):
                read(path)


def test_a_folder_a_fifo_a_device_and_a_socket_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder.jpg")
    os.mkfifo("fifo.jpg")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.jpg")
        os.symlink("/dev/zero", "device.jpg")
        for kind in ("folder", "fifo", "socket", "device"):
            for read in (size, lambda path: decode(path, 3)):
                with pytest.raises(Broken, match=r"^not a regular file$"):
                    read(f"{kind}.jpg")


def test_vanished_and_unreadable(tmp_path):
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    for name, reason in (("gone.jpg", "no such file"), ("loop.jpg", "too many levels")):
        with pytest.raises(Broken, match=f"^unreadable: {reason}"):
            decode(tmp_path / name, 3)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_no_permission(tmp_path):
    path = written(tmp_path, encoded(photograph()))
    path.chmod(0)
    with pytest.raises(Broken, match=r"permission denied"):
        decode(path, 3)


# D3


def png(width, height, depth, pixels):
    """An RGB image, its rows given with their filter bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("pixels decoded"))
    path = written(tmp_path, png(side, side, 8, b""), "x.png")
    for read in (size, lambda path: decode(path, 3)):
        with pytest.raises(Broken, match=f"^larger than {MEGAPIXELS} megapixels"):
            read(path)


def test_a_size_that_pillow_only_warns_of_is_let_through(tmp_path):
    """Between Pillow's limit and this one; the warning does not escape (warnings are errors)."""
    assert size(written(tmp_path, png(9_600, 9_600, 8, b""), "x.png")) == (9_600, 9_600, 3)


# D4


def test_16_bits_are_divided_by_257_and_never_clipped(tmp_path):
    values = np.array([[0, 128, 129, 256, 257, 32768, 65278, 65535]], dtype=np.uint16)
    expected = [0, 0, 1, 1, 1, 128, 254, 255]
    for name in ("x.png", "x.tif", "x.pgm"):
        assert grey(tmp_path, Image.fromarray(values), name) == expected, name
    big = Image.frombytes("I;16B", (8, 1), values.astype(">u2").tobytes())
    assert grey(tmp_path, big, "x.tif") == expected
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert len(set(grey(tmp_path, Image.fromarray(ramp), "x.png"))) == 256


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 200, 255], [0, 1, 200, 255]),
        ([0, 257, 65535, 65278], [0, 1, 255, 254]),
        ([0, 1000, 2000, 200_000], [0, 1, 3, 255]),
        ([-100, 0, 100, 155], [0, 100, 200, 255]),
        ([-7, -7, -7, -7], [0, 0, 0, 0]),
    ],
)
def test_32_bit_integers_by_their_range(tmp_path, values, expected):
    assert grey(tmp_path, Image.fromarray(np.array([values], dtype=np.int32)), "x.tif") == expected


def test_a_dark_16_bit_pgm_stays_dark(tmp_path):
    path = written(tmp_path, b"P5 2 1 65535\n" + struct.pack(">2H", 0, 200), "x.pgm")
    assert decode(path, 1).flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 0.25, 1], [0, 128, 64, 255]),
        ([0, 1, 100.4, 255], [0, 1, 100, 255]),
        ([0, 257, 514, 65535], [0, 1, 2, 255]),
        ([-1, 0, 0.5, 1], [0, 128, 191, 255]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_floats_by_their_range(tmp_path, values, expected):
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert grey(tmp_path, image, "x.tif") == expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_without_a_value_are_broken(tmp_path, value):
    Image.fromarray(np.array([[0, value]], dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(Broken, match="NaN or infinite"):
        decode(tmp_path / "x.tif", 1)


def test_one_bit_and_grey(tmp_path):
    bits = Image.fromarray(np.array([[0, 255, 255, 0]], dtype=np.uint8)).convert("1")
    assert grey(tmp_path, bits, "x.png") == [0, 255, 255, 0]
    levels = Image.fromarray(np.array([[0, 7, 255]], dtype=np.uint8))
    assert grey(tmp_path, levels, "x.png") == [0, 7, 255]


def test_transparency_is_composited_on_white(tmp_path):
    la = np.array([[[0, 0], [0, 255], [0, 51], [200, 0]]], dtype=np.uint8)
    assert grey(tmp_path, Image.fromarray(la, "LA"), "x.png") == [255, 0, 204, 255]

    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 102]]], dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "x.png")
    expected = [[255, 0, 0], [255, 255, 255], [153, 153, 153]]
    assert decode(tmp_path / "x.png", 3)[:, 0].T.tolist() == expected


def test_palettes_with_and_without_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    image.save(tmp_path / "x.png")
    assert decode(tmp_path / "x.png", 3)[:, 0].T.tolist() == colours
    for options in ({"transparency": 1}, {"transparency": b"\xff\x00\xff"}):
        image.save(tmp_path / "x.png", **options)
        expected = [colours[0], [255, 255, 255], colours[2]]
        assert decode(tmp_path / "x.png", 3)[:, 0].T.tolist() == expected


def test_a_transparent_colour_of_an_rgb_image(tmp_path):
    array = np.array([[[1, 2, 3], [9, 9, 9]]], dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "x.png", transparency=(1, 2, 3))
    assert decode(tmp_path / "x.png", 3)[:, 0].T.tolist() == [[255, 255, 255], [9, 9, 9]]


def test_cmyk(tmp_path):
    inks = np.zeros((16, 16, 4), dtype=np.uint8)
    inks[..., 0] = 255
    Image.fromarray(inks, "CMYK").save(tmp_path / "x.jpg", quality=100)
    x = decode(tmp_path / "x.jpg", 3).float().mean((1, 2))
    assert torch.allclose(x, torch.tensor([0.0, 255.0, 255.0]), atol=3)


def test_16_bit_colours_keep_their_range(tmp_path):
    """Written by hand, since Pillow cannot write them: white, mid-grey, black."""
    row = b"\0" + struct.pack(">9H", *[65535] * 3, *[32768] * 3, *[0] * 3)
    x = decode(written(tmp_path, png(3, 1, 16, row), "x.png"), 3)
    assert x[:, 0].T.tolist() == [[255] * 3, [128] * 3, [0] * 3]


# D5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x"
    Image.fromarray(photograph()).save(path, kind, exif=exif)
    with Image.open(path) as image:
        image.load()
        upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert upright.shape[:2] == ((48, 64) if orientation < 5 else (64, 48))
    assert torch.equal(decode(path, 3), torch.from_numpy(upright).permute(2, 0, 1))
    assert size(path) == (*upright.shape[:2], 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_eight_orientations_show_the_same_pixels(tmp_path, orientation):
    back = Image.Transpose
    stored_as = {  # by a camera held that way
        2: back.FLIP_LEFT_RIGHT,
        3: back.ROTATE_180,
        4: back.FLIP_TOP_BOTTOM,
        5: back.TRANSPOSE,
        6: back.ROTATE_90,
        7: back.TRANSVERSE,
        8: back.ROTATE_270,
    }
    array = photograph()
    image = Image.fromarray(array)
    stored = image.transpose(stored_as[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    x = decode(tmp_path / "x.png", 3)
    assert torch.equal(x, torch.from_numpy(array.copy()).permute(2, 0, 1))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_a_damaged_exif_block_does_not_break_an_image(tmp_path, exif):
    path = written(tmp_path, encoded(photograph(), exif=exif))
    assert decode(path, 3).shape == (3, 48, 64)
    assert size(path) == (48, 64, 3)


def test_an_exif_block_that_pillow_cannot_read_does_not_break_an_image(tmp_path, monkeypatch):
    def unreadable(image):
        raise SyntaxError("not a TIFF file")

    path = written(tmp_path, encoded(photograph()))
    monkeypatch.setattr(Image.Image, "getexif", unreadable)
    assert decode(path, 3).shape == (3, 48, 64)


# D6, D7


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_the_first_frame_of_several(tmp_path, kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    path = tmp_path / "x"
    options = {} if kind == "MPO" else {"lossless": True}
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert image.n_frames == 2
    x = decode(path, 3).float()
    assert x.shape == (3, 16, 16)
    assert torch.allclose(x.mean((1, 2)), torch.tensor([255.0, 0.0, 0.0]), atol=2)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 10_000), (10_000, 1)])
def test_extreme_shapes(tmp_path, height, width):
    path = written(tmp_path, encoded(np.full((height, width, 3), 9, np.uint8), "PNG"))
    assert torch.equal(decode(path, 3), torch.full((3, height, width), 9, dtype=torch.uint8))
    assert size(path) == (height, width, 3)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)],
)
def test_channels_by_the_header(tmp_path, mode, channels, monkeypatch):
    Image.new(mode, (5, 4)).save(tmp_path / "x.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("pixels decoded"))
    assert size(tmp_path / "x.png") == (4, 5, channels)


def test_a_large_photograph_is_reduced_and_a_smaller_one_is_not(tmp_path):
    Image.new("L", (2600, 1300), 7).save(tmp_path / "large.png")
    Image.new("L", (1024, 1500), 7).save(tmp_path / "fits.png")
    large, fits = (decode(tmp_path / f"{name}.png", 1) for name in ("large", "fits"))
    assert large.shape == (1, 1024, 2048)
    assert (large == 7).all()
    assert fits.shape == (1, 1500, 1024)


def waves(height, width):
    """A photograph without fine detail, (H, W, 3): other sizes of it look alike."""
    y, x = np.mgrid[:height, :width] / height
    return np.stack([120 + 100 * np.sin(5 * y + k * x) for k in range(3)], 2).astype(np.uint8)


@pytest.mark.parametrize("height", [2047, 2048, 4100])
def test_a_jpeg_of_any_size_is_reduced_alike(tmp_path, height):
    array = waves(height, height + 400)
    files = [written(tmp_path, encoded(array, kind), f"x.{kind}") for kind in ("JPEG", "PNG")]
    jpeg, png = (decode(path, 3) for path in files)
    assert jpeg.shape == png.shape == (3, 1024, round((height + 400) * 1024 / height))
    assert (jpeg.int() - png.int()).abs().max() <= 6


def test_a_large_jpeg_is_never_decoded_at_full_size(tmp_path, monkeypatch):
    path = written(tmp_path, encoded(waves(4100, 4100), "JPEG"))
    seen = []
    monkeypatch.setattr(module, "_reduced", lambda x: seen.append(tuple(x.shape)) or x)
    decode(path, 3)
    assert seen == [(3, 1025, 1025)]
    assert size(path) == (4100, 4100, 3)


def test_a_large_jpeg_lies_as_its_orientation_says(tmp_path):
    upright = written(tmp_path, encoded(waves(2400, 2100), "JPEG"), "upright.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned = Image.fromarray(waves(2400, 2100)).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.jpg", exif=exif)
    found, expected = decode(tmp_path / "turned.jpg", 3), decode(upright, 3)
    assert found.shape == expected.shape
    assert (found.int() - expected.int()).abs().max() <= 10  # blocks begin elsewhere


def test_a_large_jpeg_that_is_cut_is_broken(tmp_path):
    data = encoded(waves(2400, 2100), "JPEG")
    for share in (0.3, 0.6, 0.9):
        cut = data[: int(share * len(data))]
        for end in (b"", b"\xff\xd9", bytes(2000) + b"\xff\xd9"):
            with pytest.raises(Broken, match="truncated"):
                decode(written(tmp_path, cut + end), 3)


@pytest.mark.parametrize("height", [48, 1300])
def test_the_channels_of_a_pixel_lie_together(tmp_path, height):
    x = decode(written(tmp_path, encoded(waves(height, height), "PNG"), "x.png"), 3)
    assert x.stride()[0] == 1
