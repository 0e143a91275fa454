"""Where media come from, and what they are taken for."""

import base64
import io
import os
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile
from PIL import Image

from processors import InputError, load_image, sniff, sources
from processors.sources import describe, open_source, read_source

DATA = b"twelve bytes"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.split("to=")[1])
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA) + (5 if self.path == "/short" else 0)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def refused(source):
    with pytest.raises(InputError) as refusal:
        read_source(source)
    assert len(str(refusal.value)) <= 500 and "0x" not in str(refusal.value)
    return refusal.value


def test_every_way_to_name_bytes(tmp_path, server):
    path = tmp_path / "a file"
    path.write_bytes(DATA)
    encoded = base64.b64encode(DATA).decode()
    forms = [path, str(path), DATA, bytearray(DATA), memoryview(DATA), f"{server}/file", f"{server}/moved?to=/file"]
    forms += [f"data:image/png;base64,{encoded}", f"DATA:;base64,{encoded[:7]}\n{encoded[7:]}", "data:,twelve%20bytes"]
    for source in forms:
        assert read_source(source) == DATA
        with open_source(source) as stream:
            assert stream.read(3) == DATA[:3] and stream.seek(0) == 0 and stream.read() == DATA


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("no such file", "source_not_found"),
        ("no such folder/file", "source_not_found"),
        ("a\0b", "source_unreadable"),
        ("x" * 5000, "source_unreadable"),
        (os.devnull, "source_not_a_file"),
        (os.curdir, "source_not_a_file"),
        ("file:///etc/passwd", "source_scheme"),
        ("FTP://127.0.0.1/x", "source_scheme"),
        ("concat://a", "source_scheme"),
        (b"", "source_empty"),
        ("data:image/png;base64,", "source_empty"),
        ("data:image/png;base64,####", "source_bad_data_uri"),
        ("data:image/png;base64,QUJ", "source_bad_data_uri"),
        ("data:image/png", "source_bad_data_uri"),
        ("http://127.0.0.1:9/nothing", "source_download"),
        ("http://[broken", "source_download"),
    ],
)
def test_what_cannot_be_read_is_refused(source, code):
    assert refused(source).code == code


@pytest.mark.parametrize("path", ["/missing", "/short", "/moved?to=file:///etc/passwd", "/moved?to=ftp://127.0.0.1/x"])
def test_downloads_that_fail_are_refused(path, server):
    assert refused(server + path).code == "source_download"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_no_redirect_can_leave_the_web(url):
    with pytest.raises(urllib.error.URLError, match="unknown url type"):
        sources._http_opener().open(url)


def test_empty_files(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert refused(path).code == "source_empty"


def test_nothing_larger_than_the_limit_is_held(server, monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "MAX_BYTES", 8)
    for source in (DATA, f"{server}/file", "data:,twelve%20bytes"):
        assert refused(source).code == "source_too_large"
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with pytest.raises(InputError) as refusal:
        open_source(path, max_bytes=8)
    assert refusal.value.code == "source_too_large"
    with open_source(path) as stream:  # a local file is read piece by piece
        assert stream.read() == DATA


def test_messages_name_what_was_given_and_no_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(InputError) as refusal:
        load_image("notes.txt")
    assert "'notes.txt'" in str(refusal.value) and str(tmp_path) not in str(refusal.value)
    assert describe("data:image/png;base64,QUJD") == "the data URI"
    assert "0x" not in describe(object()) + describe(io.BytesIO())
    assert len(describe("y" * 5000)) < 200


def picture(form):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), "teal").save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "ICO", "JPEG2000"])
def test_pictures_are_told_by_their_bytes(form, tmp_path):
    path = tmp_path / "picture.mp3"
    path.write_bytes(picture(form))
    assert sniff(path) == sniff(path.read_bytes()) == "image"


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "RF64", "CAF"])
def test_sounds_are_told_by_their_bytes(form):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.RandomState(0).randn(8000) * 0.1, 16_000, format=form)
    assert sniff(buffer.getvalue()) == "audio"


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4"),
     ("mpegts", "libx264"), ("flv", "libx264"), ("mpeg", "mpeg2video"), ("h264", "libx264"), ("asf", "libx264")],
)  # fmt: skip
def test_videos_are_told_by_their_bytes(container, codec, video_file):
    assert sniff(video_file([0, 1 / 30], container, codec)) == "video"


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("webm", "libopus"), ("adts", "aac")]
)
def test_a_container_of_sound_alone_is_a_sound(container, codec):
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        track = file.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for packet in [*track.encode(frame), *track.encode(None)]:
            file.mux(packet)
    assert sniff(buffer.getvalue()) == "audio"


def test_decoded_media_are_told_by_their_shape():
    frame = np.zeros((32, 32, 3), np.uint8)
    assert sniff(frame) == sniff(frame[..., 0]) == sniff(Image.fromarray(frame)) == "image"
    assert sniff(np.stack([frame] * 2)) == sniff([frame, frame]) == sniff([Image.fromarray(frame)]) == "video"
    assert (
        sniff(np.zeros(16_000)) == sniff(np.zeros((2, 16_000), np.float32)) == sniff(np.zeros(99, np.int16)) == "audio"
    )


@pytest.mark.parametrize(
    "source", [b"plain words", b"\x00" * 64, {}, None, [], [b"x"], np.zeros((2, 2, 2, 2, 2)), np.float32(1)]
)
def test_anything_else_is_refused(source):
    with pytest.raises(InputError) as refusal:
        sniff(source)
    assert refusal.value.code == "media_unknown"
