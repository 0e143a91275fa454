"""Decoding in a process apart: the same values, and a decoder's death that is one refusal."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from processors import (
    Access,
    AudioConfig,
    Deadline,
    ImageConfig,
    InputError,
    Limits,
    VideoConfig,
    VideoProcessor,
    load_audio,
    load_video,
)
from processors.decode import pool as decoder_pool
from processors.decode import process as decoder_process
from processors.decode.audio.track import audio_track_blocks
from processors.decode.video.decoder import open_video
from processors.features import Processors, isolated_features
from processors.io.sources import FileByPosition, open_source

pytest.importorskip("av")

APART = Access(isolate=True)


def test_a_file_read_by_position_starts_where_it_was_told(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(10)))
    with path.open("rb") as held:
        held.seek(7)
        file = FileByPosition(held.fileno())
        assert file.read(3) == b"\x00\x01\x02"
        assert (file.seek(0), file.read(1)) == (0, b"\x00")
        assert (file.seek(-9, 1), file.read(1)) == (0, b"\x00")
        assert (file.seek(2, 1), file.read(1)) == (3, b"\x03")
        assert (file.seek(-1, 2), file.read()) == (9, b"\x09")
        assert held.tell() == 7


@pytest.fixture(scope="module")
def media(video_file):
    """Ten seconds of numbered frames, with a tone beside them."""
    tone = np.sin(np.arange(44_100 * 10) / 20).astype(np.float32) * 0.3
    return video_file([number / 30 for number in range(300)], width=320, height=192, sound=tone)


@pytest.fixture(autouse=True, scope="module")
def _no_process_is_left():
    """Neither of these tests, nor to them."""
    decoder_pool.end_decoders()
    yield
    decoder_pool.end_decoders()


def the_process():
    """The one that the pool would lend next."""
    return decoder_pool._idle[-1].process


def test_values_are_those_of_this_process(media, tmp_path):
    here, there = VideoProcessor()(media, fps=5, audio=True), VideoProcessor()(media, fps=5, audio=True, access=APART)
    np.testing.assert_array_equal(there.pixels, here.pixels)
    np.testing.assert_array_equal(there.timestamps, here.timestamps)
    np.testing.assert_array_equal(there.audio, here.audio)
    assert there.seconds_per_grid == here.seconds_per_grid
    path = tmp_path / "a clip"
    path.write_bytes(media)
    np.testing.assert_array_equal(load_video(path, access=APART), load_video(path))


def test_audio_and_animations_too(media, tmp_path):
    with open_source(media) as stream:
        apart = np.concatenate(list(audio_track_blocks(stream, "it", 16_000, access=APART)))
    np.testing.assert_array_equal(apart, load_audio(media))
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue", "black")]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], lossless=True, duration=200)
    np.testing.assert_array_equal(load_video(tmp_path / "a.webp", access=APART), load_video(tmp_path / "a.webp"))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("avi", "mjpeg"),
        ("matroska", "ffv1"),
        ("mpegts", "libx264"),
        ("flv", "libx264"),
        ("webm", "libvpx"),
        ("asf", "wmv2"),
    ],
)
def test_no_kind_needs_what_cannot_be_opened_any_more(container, codec, clip):
    data = clip([20, 90, 160, 220] * 3, container, codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p")
    joined = data * 2 if container in {"mpegts", "flv", "avi"} else data
    np.testing.assert_array_equal(load_video(joined, fps=25, access=APART), load_video(joined, fps=25))


def test_one_process_serves_file_after_file(media):
    load_video(media, num_frames=2, access=APART)
    first = the_process().pid
    for source, code in ((b"no video at all", "video_unknown_format"), (media[: len(media) // 2], "video_truncated")):
        with pytest.raises(InputError) as refusal:
            load_video(source, access=APART)
        assert refusal.value.code == code
    with open_video(media, VideoConfig(), fps=10, access=APART) as sampled:
        next(sampled.frames)  # the rest is not wanted
    load_video(media, num_frames=2, access=APART)
    assert the_process().pid == first and len(decoder_pool._idle) == 1


def test_a_killed_decoder_is_one_refusal(media):
    with pytest.raises(InputError) as refusal, open_video(media, VideoConfig(), fps=30, access=APART) as sampled:
        for number, _ in enumerate(sampled.frames):
            if number == 2:
                os.kill(pid_of(sampled), signal.SIGKILL)
    assert refusal.value.code == "decoder_crashed" and "signal 9" in str(refusal.value)
    assert len(load_video(media, num_frames=4, access=APART)) == 4
    # One that dies while it waits for work is replaced.
    os.kill(the_process().pid, signal.SIGSEGV)
    the_process().wait()
    assert len(load_video(media, num_frames=4, access=APART)) == 4


def pid_of(sampled):
    session = sampled.frames.gi_frame.f_locals["session"]
    return session._decoder.process.pid


@pytest.mark.parametrize(
    ("options", "code"), [({"limits": Limits(decoder_seconds=0.3)}, "decoder_time"), ({}, "deadline")]
)
def test_a_decoder_that_hangs_is_ended(options, code, media):
    load_video(media, num_frames=2, access=APART)
    process = the_process()
    os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(InputError) as refusal:
        load_video(media, access=Access(isolate=True, deadline=Deadline(60 if options else 0.7), **options))
    assert refusal.value.code == code and time.monotonic() - began < 10
    assert process.wait(5) == -signal.SIGKILL and not decoder_pool._idle


def test_another_thread_cancels(media):
    load_video(media, num_frames=2, access=APART)
    os.kill(the_process().pid, signal.SIGSTOP)
    access = Access(isolate=True)
    threading.Timer(0.2, access.deadline.cancel).start()
    with pytest.raises(InputError) as refusal:
        load_video(media, access=access)
    assert refusal.value.code == "cancelled"


def test_memory_and_files_are_bounded(media, video_file):
    load_video(media, num_frames=2, access=APART)
    limits = Path(f"/proc/{the_process().pid}/limits").read_text()
    rows = {line[:26].strip(): line[26:].split() for line in limits.splitlines()}
    assert rows["Max open files"][:2] == ["5", "5"] and rows["Max file size"][:2] == ["0", "0"]
    assert int(rows["Max address space"][0]) < (1 << 31) + (1 << 30)
    assert int(rows["Max cpu time"][0]) <= 610
    decoder_pool.end_decoders()
    with pytest.raises(InputError) as refusal:
        load_video(
            video_file([0, 1], width=1920, height=1088), access=Access(Limits(decoder_bytes=1 << 20), isolate=True)
        )
    assert refusal.value.code == "video_too_large"
    assert len(load_video(media, num_frames=2, access=APART)) == 2


def test_where_a_process_cannot_tell_its_size_the_libraries_have_room(monkeypatch):
    def fail(*args, **options):
        raise FileNotFoundError

    told = decoder_process._address_space()
    monkeypatch.setattr(decoder_process, "open", fail, raising=False)
    # Python with NumPy and FFmpeg takes some hundred megabytes of addresses before it decodes anything.
    assert told > 1 << 26 and decoder_process._address_space() >= 1 << 28


def test_threads_have_a_process_each(media):
    want, results = load_video(media, num_frames=8), []

    def work():
        results.append(load_video(media, num_frames=8, access=APART))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and all((result == want).all() for result in results)
    assert 1 <= len(decoder_pool._idle) <= 3


def test_no_process_outlives_its_parent(media, tmp_path):
    (tmp_path / "media").write_bytes(media)
    script = tmp_path / "script.py"
    # No guard around the main module: the process must not run it again.
    script.write_text(
        "import sys, time\nfrom processors import Access, load_video, decoder_pool\n"
        "load_video(sys.argv[1], num_frames=2, access=Access(isolate=True))\n"
        "print(decoder_pool._idle[0].process.pid, flush=True)\n"
        "while sys.argv[2] != 'end': load_video(sys.argv[1], fps=30, access=Access(isolate=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for how in ("wait", "interrupt", "end"):
        parent = subprocess.Popen(
            [sys.executable, script, tmp_path / "media", how],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        pid = int(parent.stdout.readline())
        if how != "end":
            time.sleep(0.3)
            parent.send_signal(signal.SIGKILL if how == "wait" else signal.SIGINT)
            began = time.monotonic()
        parent.wait(20)
        if how == "interrupt":
            assert time.monotonic() - began < 10
        parent.stdout.close()
        assert gone(pid), how


def gone(pid, patience=5.0):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_libraries_that_some_media_alone_need_are_there_when_files_cannot_be_opened_any_more(tmp_path):
    """Colours of LAB, a spectrogram: what they import is imported before."""
    processors = Processors(ImageConfig(), None, AudioConfig())
    picture = io.BytesIO()
    Image.new("LAB", (64, 64), (120, 90, 200)).save(picture, "TIFF")
    tone = io.BytesIO()
    soundfile.write(tone, np.sin(np.arange(8000) / 20) * 0.3, 8000, format="FLAC")
    for data in (picture.getvalue(), tone.getvalue()):
        here = processors.read(data, Access())
        there = isolated_features(data, "it", processors, Access())
        for one, other in zip(vars(there).values(), vars(here).values(), strict=True):
            np.testing.assert_array_equal(one, other)
