"""Every limit at its boundary: what is exactly at it is accepted, and one more is refused; and what the docs say."""

import contextlib
import io
import math
import re
import threading
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processors import (
    Access,
    ImageProcessor,
    InputError,
    Limits,
    Sources,
    VideoProcessor,
    load_audio,
    load_image,
    load_video,
)
from processors.io.sources import read_source

SAFETY = Path(__file__).parents[2] / "docs" / "safety.md"
UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "hours": 3600}
WAVE = np.sin(np.arange(16_000) / 9).astype(np.float32)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gif(count=5, size=(32, 32)):
    frames = [Image.new("L", size, 40 * number) for number in range(count)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def flac():
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, WAVE, 16_000, format="FLAC")
    return buffer.getvalue()


def refusal(call, *arguments, access, **options):
    with pytest.raises(InputError) as refused:
        call(*arguments, access=access, **options)
    return refused.value.code


def boundary(call, source, name, at, code, others=None, sources=None, **options):
    """A limit of `at` accepts what one less refuses."""
    sources = sources or Sources()
    assert call(source, access=Access(Limits(**{name: at}, **others or {}), sources), **options) is not None
    assert refusal(call, source, access=Access(Limits(**{name: at - 1}, **others or {}), sources), **options) == code


def test_the_defaults_are_those_that_the_docs_tell():
    told = {}
    for name, value in re.findall(r"^\| `(\w+)` \| ([\d,]+(?: \w+)?) \|", SAFETY.read_text(encoding="utf-8"), re.M):
        number, _, unit = value.partition(" ")
        told[name] = int(number.replace(",", "")) * UNITS.get(unit, 1)
    assert told == {field.name: getattr(Limits(), field.name) for field in fields(Limits)}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_image_pixels(form):
    boundary(load_image, encoded(Image.new("RGB", (40, 30)), form), "image_pixels", 1200, "image_too_large")


@pytest.mark.parametrize("source", [np.zeros((30, 40, 3), np.uint8), Image.new("RGB", (40, 30))], ids=["array", "PIL"])
def test_image_pixels_of_what_is_decoded(source):
    boundary(load_image, source, "image_pixels", 1200, "image_too_large")


def test_image_expansion_and_free_bytes():
    data = encoded(Image.new("RGB", (300, 300)))
    decoded = 3 * 300 * 300
    boundary(load_image, data, "free_bytes", decoded, "image_too_large", {"image_expansion": 1})
    times = math.ceil(decoded / len(data))
    boundary(load_image, data, "image_expansion", times, "image_too_large", {"free_bytes": 1})


def test_free_bytes_of_a_frame():
    data = gif(size=(200, 200))
    boundary(load_video, data, "free_bytes", 3 * 200 * 200, "video_too_large", {"image_expansion": 1})


def test_frame_pixels(clip):
    boundary(load_video, gif(), "frame_pixels", 1024, "video_too_large")
    boundary(load_video, clip([9] * 5), "frame_pixels", 64 * 64, "video_too_large")


def test_resized_pixels(clip):
    processor = ImageProcessor()
    rows, columns = processor(np.zeros((64, 96, 3), np.uint8)).grid_thw[0, 1:].tolist()
    area = rows * columns * processor.config.patch_size**2
    boundary(processor, np.zeros((64, 96, 3), np.uint8), "resized_pixels", area, "image_too_large")
    video = VideoProcessor()
    rows, columns = video(clip([9] * 5)).grid_thw[0, 1:].tolist()
    area = rows * columns * video.config.patch_size**2
    boundary(video, clip([9] * 5), "resized_pixels", area, "video_too_large")


def test_media_tokens(clip):
    picture, processor, video = np.zeros((64, 96, 3), np.uint8), ImageProcessor(), VideoProcessor()
    tokens = int(processor(picture).grid_thw[0].prod()) // 4
    boundary(processor, picture, "media_tokens", tokens, "image_too_large")
    tokens = int(video(clip([9] * 8)).grid_thw[0].prod()) // 4
    boundary(video, clip([9] * 8), "media_tokens", tokens, "video_too_large")
    # Of frames that are not resized, 32 x 32 pixels of two frames are one.
    boundary(load_video, clip([9] * 8), "media_tokens", 16, "video_too_large", fps=25)


def test_video_frames(clip):
    boundary(load_video, gif(), "video_frames", 5, "video_too_large")
    boundary(load_video, clip([9] * 12), "video_frames", 12, "video_too_large")


def test_sampled_frames(clip):
    boundary(load_video, clip([9] * 12), "sampled_frames", 8, "video_too_large", num_frames=8)
    boundary(load_video, np.zeros((5, 32, 32, 3), np.uint8), "sampled_frames", 5, "video_too_large")


def test_audio_seconds_and_samples():
    data = flac()
    boundary(load_audio, data, "audio_samples", 16_000, "audio_too_long")
    boundary(load_audio, data, "audio_samples", 8_000, "audio_too_long", target_rate=8_000)
    boundary(load_audio, WAVE, "audio_samples", 16_000, "audio_too_long", sampling_rate=16_000)
    for source, options in ((data, {}), (WAVE, {"sampling_rate": 16_000})):
        assert len(load_audio(source, access=Access(Limits(audio_seconds=1)), **options)) == 16_000
        short = Access(Limits(audio_seconds=15_999 / 16_000))
        assert refusal(load_audio, source, access=short, **options) == "audio_too_long"


def test_audio_expansion_and_free_bytes():
    data = flac()
    boundary(load_audio, data, "free_bytes", 4 * 16_000, "audio_expansion", {"audio_expansion": 1})
    times = math.ceil(4 * 16_000 / len(data))
    boundary(load_audio, data, "audio_expansion", times, "audio_expansion", {"free_bytes": 1})


class Chain(BaseHTTPRequestHandler):
    """Path /n redirects n times, and then gives a hundred bytes; with ?chunked it does not tell how many."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        left, _, chunked = self.path[1:].partition("?")
        self.send_response(302 if int(left) else 200)
        self.send_header("Connection", "close")
        if int(left):
            self.send_header("Location", f"/{int(left) - 1}")
        elif not chunked:
            self.send_header("Content-Length", "100")
        self.end_headers()
        if not int(left):
            with contextlib.suppress(OSError):
                self.wfile.write(bytes(100))

    def log_message(self, format, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def chain():
    with ThreadingHTTPServer(("127.0.0.1", 0), Chain) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def fetched(url, access):
    return read_source(url, access)


@pytest.mark.parametrize("path", ["/0", "/0?chunked"])
def test_fetch_bytes(path, chain):
    private = Sources(private=True)
    for name in ("fetch_bytes", "source_bytes"):
        boundary(fetched, chain + path, name, 100, "source_too_large", None, private)


@pytest.mark.parametrize("count", [1, 3])
def test_redirects(count, chain):
    boundary(fetched, f"{chain}/{count}", "redirects", count, "source_download", None, Sources(private=True))


@pytest.mark.parametrize("scale", [1.0, math.inf])
def test_limits_may_be_floats_and_endless(scale, clip, chain):
    limits = Limits()
    for field in fields(Limits):  # as a file of settings has them; the tests' type checks would take only what is said
        object.__setattr__(limits, field.name, float(getattr(limits, field.name)) * scale)
    limits.__post_init__()
    access = Access(limits, Sources(private=True))
    assert load_image(encoded(Image.new("RGB", (40, 30))), access=access).shape == (30, 40, 3)
    assert len(load_video(gif(), access=access, num_frames=4)) == 4
    assert VideoProcessor()(clip([9] * 8), access=access).grid_thw[0, 0] == 2
    assert ImageProcessor()(np.zeros((64, 96, 3), np.uint8), access=access).grid_thw[0, 0] == 1
    assert len(load_video(clip([9] * 8), access=access, fps=25)) == 8
    assert len(load_audio(clip([9] * 8, "matroska", audio=np.tile(WAVE, 3)), access=access)) > 40_000 / 3
    assert len(load_audio(flac(), access=access)) == 16_000
    assert len(read_source(f"{chain}/1", access)) == 100
