"""Stills: the resize rule, patches against the reference, and every kind of picture by value."""

import base64
import io
import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from processors import (
    Access,
    ImageConfig,
    ImageProcessor,
    InputError,
    Limits,
    VideoConfig,
    load_image,
    load_video,
    smart_resize,
)
from processors.patches import write_patches
from processors.resize import frame_size

NAMES = ["photo", "odd", "tiny", "dot", "wide", "tall", "exact", "half", "shrunk", "grown"]


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_sizes_equal_the_references(golden):
    for height, width, low, high, rows, columns in golden("images")["sizes"].tolist():
        assert smart_resize(height, width, ImageConfig(min_pixels=low, max_pixels=high)) == (rows, columns)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(10, 16), st.integers(0, 8))
def test_sizes_are_multiples_within_the_limits(height, width, low, span):
    config = ImageConfig(min_pixels=2**low, max_pixels=2 ** (low + span))
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(InputError) as refusal:
            smart_resize(height, width, config)
        assert refusal.value.code == "aspect_ratio"
        return
    rows, columns = smart_resize(height, width, config)
    assert rows % 32 == columns % 32 == 0 and min(rows, columns) >= 32
    # A side never goes under one block, and growing rounds up: only then may an area leave the limits.
    assert rows * columns <= config.max_pixels or min(rows, columns) == 32 or rows * columns <= 4 * config.min_pixels
    # Shrinking rounds down, and begins where the sides, rounded to blocks, go over: then an area may end under them.
    assert rows * columns >= config.min_pixels or round(height / 32) * round(width / 32) * 32**2 > config.max_pixels


@pytest.mark.parametrize("side", [1, 7, 40])
def test_one_side_may_be_200_times_the_other_and_no_more(side):
    video = VideoConfig(clip_limits=True)
    for call in (partial(smart_resize, config=ImageConfig()), partial(frame_size, 2, config=video)):
        for turn in (1, -1):
            assert min(call(*(side, 200 * side)[::turn])) >= 32
            with pytest.raises(InputError) as refusal:
                call(*(side, 200 * side + 32)[::turn])
            assert refusal.value.code == "aspect_ratio"


def test_an_area_that_is_a_limit_is_neither_grown_nor_shrunk():
    """40 x 64 pixels are 32 x 64 in whole blocks, which are 2048."""
    for low, high in ((1, 2048), (2048, 1 << 20)):
        assert smart_resize(40, 64, ImageConfig(min_pixels=low, max_pixels=high)) == (32, 64)
    for low, high in ((1, 4096), (4096, 1 << 20)):
        config = VideoConfig(clip_limits=True, min_pixels=low, max_pixels=high)
        assert frame_size(2, 40, 64, config) == (32, 64)
    assert smart_resize(40, 64, ImageConfig(min_pixels=1, max_pixels=2047)) == (32, 32)
    assert smart_resize(40, 64, ImageConfig(min_pixels=2049, max_pixels=1 << 20)) == (64, 64)


def test_a_frame_with_a_side_under_a_block_is_first_enlarged():
    config = VideoConfig(clip_limits=True, min_pixels=1)
    assert frame_size(2, 20, 40, config) == (32, 64) and frame_size(2, 40, 20, config) == (64, 32)
    assert frame_size(2, 20, 40, VideoConfig(clip_limits=False, min_pixels=1)) == (32, 32)


def test_frames_count_in_whole_patches_of_time():
    """Of limits of a whole video: a frame alone fills a patch, and of five the half patch is rounded to even."""
    config = VideoConfig(clip_limits=True, min_pixels=1, max_pixels=4 * 64 * 64)
    assert frame_size(4, 64, 64, config) == frame_size(5, 64, 64, config) == (64, 64)
    assert frame_size(6, 64, 64, config) == (32, 32)
    small = VideoConfig(clip_limits=True, min_pixels=1, max_pixels=2 * 64 * 96)
    for height, width in ((64, 96), (100, 150)):
        assert frame_size(1, height, width, small) == frame_size(2, height, width, small) == (64, 96)


@pytest.mark.parametrize("name", NAMES)
def test_patches_equal_the_references(name, golden, inputs):
    height, width, low, high = inputs.IMAGES[name]
    made = ImageProcessor(ImageConfig(min_pixels=low, max_pixels=high))(inputs.picture(name, height, width))
    archive = golden("images")
    np.testing.assert_array_equal(made.grid_thw, archive[f"{name}/grid_thw"])
    stride = max(1, len(made.pixels) // 100)
    want = archive[f"{name}/pixels"]
    np.testing.assert_array_equal(made.pixels[::stride].reshape(want.shape), want)
    # The float values: each level through the reference's own table, and a still stands for both frames.
    floats = made.pixel_values[::stride].reshape(-1, 3, 2, 256)
    reference = archive["levels"][np.arange(3)[:, None], want]
    assert max(np.abs(floats[:, :, frame] - reference).max() for frame in (0, 1)) <= 1e-6
    # Its torchvision processor rounds otherwise on the way, at some widths in both passes: its two differ so far.
    difference = np.abs(archive[f"{name}/torchvision_difference"].astype(int))
    most, share = (2, 0.2) if name in {"odd", "tall"} else (1, 0.005)
    assert difference.max() <= most and (difference != 0).mean() < share and (difference > 1).mean() < 1e-4


def test_every_level_and_channel_is_normalised_as_in_the_reference(golden):
    config = ImageConfig(image_mean=(0.48145466, 0.4578275, 0.40821073), image_std=(0.268, 0.261, 0.275), min_pixels=1)
    ramp = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16), (2, 2))
    made = ImageProcessor(config)(ramp)
    np.testing.assert_array_equal(made.pixel_values[0].reshape(3, 2, 256)[:, 1], golden("images")["uneven_levels"])


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_patches_are_a_rearrangement(down, across, seed):
    config = ImageConfig()
    frame = np.random.RandomState(seed).randint(0, 256, (32 * down, 32 * across, 3), np.uint8)
    patches = np.empty((4 * down * across, 3, 16, 16), np.uint8)
    write_patches(frame, patches, config)
    back = np.empty_like(frame)
    for place, patch in enumerate(patches):
        block, inside = divmod(place, 4)
        row, column = 2 * (block // across) + inside // 2, 2 * (block % across) + inside % 2
        back[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = patch.transpose(1, 2, 0)
    np.testing.assert_array_equal(back, frame)


def test_a_frame_that_does_not_fill_its_blocks_is_refused():
    with pytest.raises(InputError) as refusal:
        write_patches(np.zeros((48, 64, 3), np.uint8), np.empty((12, 3, 16, 16), np.uint8), ImageConfig())
    assert refusal.value.code == "patch_block"


def test_alone_equals_beside_others(inputs):
    pictures = [inputs.picture(name, *inputs.IMAGES[name][:2]) for name in ("tiny", "wide", "odd")]
    together = ImageProcessor()(pictures)
    alone = [ImageProcessor()(picture) for picture in pictures]
    np.testing.assert_array_equal(together.grid_thw, np.concatenate([made.grid_thw for made in alone]))
    np.testing.assert_array_equal(together.pixels, np.concatenate([made.pixels for made in alone]))
    assert together.grid_thw.dtype == np.int32 and together.pixels.dtype == np.uint8


def test_limits_of_one_call(inputs):
    picture = inputs.picture("odd", 333, 517)
    assert ImageProcessor()(picture, max_pixels=20_000).grid_thw.prod() * 256 <= 20_000
    assert ImageProcessor()(picture, min_pixels=500_000).grid_thw.prod() * 256 >= 500_000
    with pytest.raises(InputError) as refusal:
        ImageProcessor()(picture, min_pixels=1000, max_pixels=10)
    assert refusal.value.code == "pixel_limits"


def test_every_way_to_name_a_picture_gives_the_same(tmp_path, inputs):
    picture = inputs.picture("tiny", 40, 50)
    data = encoded(Image.fromarray(picture))
    path = tmp_path / "named.jpg"  # the name lies: only content counts
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (str(path), path, data, bytearray(data), memoryview(data), uri, Image.fromarray(picture), picture):
        np.testing.assert_array_equal(load_image(source), picture)


def test_the_users_picture_stays_as_it_was():
    image = Image.new("RGB", (40, 20), "red")
    image.getexif()[0x0112] = 6
    assert load_image(image).shape == (40, 20, 3)
    assert image.size == (40, 20) and image.getexif()[0x0112] == 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation, form):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:], upright[16:, :24] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    # How a camera held that way stores the scene: the inverse of what the tag asks for.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1), 7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    made = load_image(encoded(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options))
    assert made.shape == upright.shape
    assert np.abs(made[8::16, 12::24].astype(int) - upright[8::16, 12::24]).max() <= 8


def test_transparency_is_laid_on_white():
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[..., 0] = 200
    layer[0, :, 3], layer[1, :, 3] = 255, 51
    want = np.full((4, 4, 3), 255, np.uint8)
    want[0], want[1] = (200, 0, 0), (244, 204, 204)
    for source in (layer, Image.fromarray(layer), encoded(Image.fromarray(layer))):
        assert np.abs(load_image(source).astype(int) - want).max() <= 1
    grey = np.zeros((4, 4, 2), np.uint8)
    grey[0] = (100, 255)
    for mode in ("LA", "La"):
        made = load_image(Image.fromarray(grey).convert(mode))
        assert made[0, 0].tolist() == [100] * 3 and made[1, 1].tolist() == [255] * 3


def test_what_is_wholly_clear_is_white():
    clear = np.zeros((4, 5, 4), np.uint8)
    clear[..., 0] = 200
    for source in (clear, clear[::-1], Image.fromarray(clear), encoded(Image.fromarray(clear))):
        assert (load_image(source) == 255).all()


def test_palettes_with_and_without_a_clear_colour():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    for source in (image, encoded(image, "GIF"), encoded(image, "PNG")):
        made = load_image(source)
        assert made[0, 0].tolist() == [200, 100, 50] and made[5, 5].tolist() == [10, 20, 30]
    made = load_image(encoded(image, "PNG", transparency=0))
    assert made[0, 0].tolist() == [200, 100, 50] and made[5, 5].tolist() == [255, 255, 255]
    keyed = load_image(encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)))
    assert (keyed == 255).all()


@given(st.integers(0, 65_535))
def test_sixteen_bits_by_value(level):
    want = round(level * 255 / 65_535)
    assert (load_image(np.full((2, 3), level, np.uint16)) == want).all()
    assert (load_image(np.full((2, 3, 3), level, np.uint16)) == want).all()
    assert (load_image(Image.fromarray(np.full((2, 3), level, np.uint16))) == want).all()
    assert (load_image(Image.fromarray(np.full((2, 3), level, np.int32))) == want).all()


def test_sixteen_bit_files_by_value():
    levels = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    want = np.rint(levels / 257).astype(int)
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(load_image(encoded(Image.fromarray(levels), form))[..., 1], want)


def test_grey_and_inks():
    assert (load_image(np.full((4, 5), 77, np.uint8)) == 77).all()
    assert (load_image(np.full((4, 5, 1), 77, np.uint8)) == 77).all()
    assert (load_image(Image.new("1", (4, 4), 1)) == 255).all()
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for source in (inks, encoded(inks, "TIFF"), encoded(inks, "JPEG", quality=100)):
        assert np.abs(load_image(source).astype(int) - (255, 0, 0)).max() <= 3


def test_of_an_animation_the_first_frame():
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("lime", "red", "blue")]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert load_image(data)[4, 4].tolist() == [0, 255, 0]


def test_arrays_that_numpy_can_view():
    class Viewable:
        shape = (4, 6, 3)

        def __array__(self, dtype=None, copy=None):
            return np.full(self.shape, 9, np.uint8)

    assert (load_image(Viewable()) == 9).all()
    flipped = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[::-1, ::2]
    np.testing.assert_array_equal(load_image(flipped), flipped)


PNG = encoded(Image.effect_noise((64, 64), 80).convert("RGB"))
JPEG = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "JPEG")
CLAIM = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + PNG[24:29]
BOMB = PNG[:12] + CLAIM + zlib.crc32(CLAIM).to_bytes(4, "big") + PNG[33:]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (b"these are not the bytes of a picture", "image_unknown_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_unknown_format"),
        (PNG[: len(PNG) // 2], "image_corrupt"),
        (JPEG[: len(JPEG) // 2], "image_corrupt"),
        (PNG[:60] + b"\x00" * 200 + PNG[260:], "image_corrupt"),
        (BOMB, "image_too_large"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "image_needs_heif"),
        (np.zeros((0, 5, 3), np.uint8), "image_empty"),
        (np.zeros((5, 0), np.uint8), "image_empty"),
        (np.zeros((4, 4, 3), np.float32), "image_dtype"),
        (np.zeros((4, 4, 3), np.int64), "image_dtype"),
        (Image.new("F", (4, 4)), "image_dtype"),
        (Image.fromarray(np.full((4, 4), 70_000, np.int32)), "image_range"),
        (np.zeros((3, 5, 5), np.uint8), "image_shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "image_shape"),
        (np.zeros(4, np.uint8), "image_shape"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "image_too_large"),
        (np.zeros((1, 201), np.uint8), "aspect_ratio"),
        (object(), "image_unknown_format"),
        (None, "image_unknown_format"),
        ([], "image_missing"),
    ],
)
def test_what_cannot_be_used_is_refused(source, code, monkeypatch):
    if code == "image_needs_heif":
        monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(InputError) as refusal:
        ImageProcessor()(source)
    assert refusal.value.code == code
    assert len(str(refusal.value)) <= 500 and "0x" not in str(refusal.value)


@pytest.mark.parametrize(
    ("shape", "told"),
    [((1, 8, 9), True), ((3, 8, 9), True), ((4, 8, 9), True), ((2, 8, 9), False), ((3, 8, 9, 3), False), ((3,), False)],
)
def test_channels_that_come_first_are_told_to_be_moved(shape, told):
    with pytest.raises(InputError, match="height, width") as refusal:
        load_image(np.zeros(shape, np.uint8))
    assert refusal.value.code == "image_shape" and ("np.moveaxis" in str(refusal.value)) == told


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.zeros((4, 4), bool), "multiply by 255"),
        (np.zeros((4, 4), np.int32), "astype(np.uint8)"),
        (np.zeros((4, 4), np.uint32), "astype(np.uint8)"),
        (np.zeros((4, 4), np.float32), "scale it to 0..255"),
        (np.array([[None]]), "rows differ"),
    ],
)
def test_a_type_that_is_no_levels_comes_with_its_remedy(array, remedy):
    with pytest.raises(InputError) as refusal:
        load_image(array)
    assert refusal.value.code == "image_dtype" and remedy in str(refusal.value)


def test_a_file_may_hold_its_free_bytes_or_so_many_times_its_size():
    data = encoded(Image.new("RGB", (40, 30)))
    decoded = 40 * 30 * 3
    times = -(-decoded // len(data))
    for limits in (Limits(free_bytes=decoded, image_expansion=1), Limits(free_bytes=1, image_expansion=times)):
        assert load_image(data, access=Access(limits)).shape == (30, 40, 3)
    for limits in (Limits(free_bytes=decoded - 1, image_expansion=1), Limits(free_bytes=1, image_expansion=times - 1)):
        with pytest.raises(InputError) as refusal:
            load_image(data, access=Access(limits))
        assert refusal.value.code == "image_too_large"


def test_an_image_may_have_just_as_many_pixels_and_tokens_as_the_limits_say():
    image = np.zeros((64, 96, 3), np.uint8)
    exact = Limits(image_pixels=64 * 96, resized_pixels=64 * 96, media_tokens=6)
    config = ImageConfig(min_pixels=1)
    assert ImageProcessor(config)(image, access=Access(exact)).grid_thw.tolist() == [[1, 4, 6]]
    for name in ("image_pixels", "resized_pixels", "media_tokens"):
        with pytest.raises(InputError) as refusal:
            ImageProcessor(config)(image, access=Access(replace(exact, **{name: getattr(exact, name) - 1})))
        assert refusal.value.code == "image_too_large"


def test_a_small_file_may_not_claim_a_large_picture():
    with pytest.raises(InputError) as refusal:
        load_image(encoded(Image.new("1", (20_000, 20_000))))
    assert refusal.value.code == "image_too_large"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", PNG[:40], JPEG[:30], b"GIF89a", b"RIFF\x40\x00\x00\x00WEBPVP8 "]))
def test_no_bytes_raise_anything_else(tail, start):
    try:
        load_image(start + tail)
    except InputError:
        pass


def first_frames_that_leave_canvas():
    """Animations of opaque frames of 16 x 16 pixels, the first at (0, 0), on canvases of 32 x 32."""
    frames = [Image.new("RGB", (16, 16), (level, 90, 30)) for level in (10, 200)]
    for disposal in (0, 1, 2, 3):
        stream = io.BytesIO()
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=100, disposal=disposal)
        data = bytearray(stream.getvalue())
        data[6:10] = b"\x20\0\x20\0"
        yield bytes(data)
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    data = bytearray(stream.getvalue())
    assert data[12:16] == b"VP8X"
    data[20] &= ~0x10
    data[24:30] = b"\x1f\0\0\x1f\0\0"
    yield bytes(data)


@pytest.mark.parametrize("data", list(first_frames_that_leave_canvas()), ids=["GIF0", "GIF1", "GIF2", "GIF3", "WEBP"])
def test_what_the_first_frame_of_an_animation_leaves_is_white(data):
    image = load_image(data)
    assert image.shape == (32, 32, 3)
    assert (image[16:] == 255).all() and (image[:, 16:] == 255).all()
    assert np.abs(image[:16, :16].astype(int) - (10, 90, 30)).max() <= 3
    frames = load_video(data, num_frames=2)
    np.testing.assert_array_equal(frames[0], image)
    assert (frames[1][16:] == 255).all() and abs(int(frames[1][8, 8, 0]) - 200) <= 3
