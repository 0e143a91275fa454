"""Bytes of strangers reach nothing but themselves: no playlist, no other file, no socket, whatever they claim."""

import ctypes
import io
import os
import socket
import struct
from pathlib import Path

import numpy as np
import pytest

from processors import InputError, VideoProcessor, load_audio, load_video
from processors.decode.container.format import container_format

av = pytest.importorskip("av")

IN_OPEN, IN_NONBLOCK = 0x20, 0o4000


class Canary:
    """A video file whose every opening is noticed, and a port whose every caller is."""

    def __init__(self, path, data):
        self.path = path
        path.write_bytes(data)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(IN_NONBLOCK)
        assert self._libc.inotify_add_watch(self._watch, os.fsencode(path), IN_OPEN) >= 0
        self._port = socket.create_server(("127.0.0.1", 0))
        self._port.setblocking(False)
        self.port = self._port.getsockname()[1]

    def touched(self):
        """Whether anything opened the file or called the port since the last question."""
        try:
            opened = bool(os.read(self._watch, 4096))
        except BlockingIOError:
            opened = False
        try:
            self._port.accept()[0].close()
        except BlockingIOError:
            return opened
        return True

    def close(self):
        os.close(self._watch)
        self._port.close()


@pytest.fixture(scope="module")
def canary(tmp_path_factory, video_file):
    folder = tmp_path_factory.mktemp("private")
    made = Canary(folder / "private.mp4", video_file([0, 0.1, 0.2]))
    yield made
    made.close()


def playlists(path, port):
    """Texts that make some demuxer open a file or a connection, by name."""
    url = f"http://127.0.0.1:{port}/a.ts"
    return {
        "ffconcat": f"ffconcat version 1.0\nfile {path}\n",
        "ffconcat_unsafe": f"ffconcat version 1.0\nfile 'file:{path}'\nduration 1\nfile '{url}'\n",
        "m3u8_file": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "m3u8_http": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
        "m3u8_key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n',
        "m3u8_map": f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{path}"\n#EXTINF:1,\n{path}\n',
        "m3u8_master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
        "dash": f'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        f'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        "imf": f'<?xml version="1.0"?><AssetMap><Asset><Path>{path}</Path></Asset></AssetMap>'
        "<CompositionPlaylist></CompositionPlaylist>",
        "smil": f'<smil><body><video src="{url}"/></body></smil>',
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "asx": f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
        "asf_reference": f"[Reference]\nRef1={url}\nRef2={path}\n",
        "ram": f"rtsp://127.0.0.1:{port}/a.rm\n",
        "pls": f"[playlist]\nFile1={url}\nNumberOfEntries=1\n",
        "m3u": f"{path}\n",
        "xspf": f'<?xml version="1.0"?><playlist><trackList><track><location>{url}</location></track></trackList>',
        "vobsub": f"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\nfilepos: {path}\n",
        "tedcaptions": '{"captions":[{"duration":1,"content":"x","startTime":0,"startOfParagraph":true}]}',
        "ffmetadata": f";FFMETADATA1\ntitle={path}\n",
        "subrip": f"1\n00:00:00,000 --> 00:00:01,000\n{path}\n",
        "webvtt": f"WEBVTT\n\n00:00.000 --> 00:01.000\n{url}\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{path}"/></svg>',
        "lavfi": f"movie={path}\n",
        "concat_protocol": f"concat:{path}|{path}",
        "image_pattern": f"{path.parent}/private%d.mp4",
    }  # fmt: skip


DISGUISES = {
    "plain": lambda text: text,
    "not_ascii": lambda text: text.replace(b"\n", b"\n# \xc3\xa9\n", 1),
    "latin": lambda text: text.replace(b"\n", b"\n# \xe9\xff\n", 1),
    "byte_order_mark": lambda text: b"\xef\xbb\xbf" + text,
    "utf_16": lambda text: text.decode().encode("utf-16"),
    "spaces": lambda text: b" \t\r\n" * 50 + text,
    "nuls_before": lambda text: b"\0" * 40 + text,
    "nuls_after": lambda text: text + b"\0" * 400,
    "control_character": lambda text: text.replace(b"\n", b"\n#\x01\n", 1),
    "id3": lambda text: b"ID3\x03\0\0\0\0\0\x0a" + b"\0" * 10 + text,
    "far_behind": lambda text: b"#" * 4200 + b"\n" + text,
    "carriage_returns": lambda text: text.replace(b"\n", b"\r\n"),
    "behind_a_jpeg": lambda text: b"\xff\xd8\xff\xe0\x00\x10JFIF" + text,
    "behind_a_webm": lambda text: b"\x1aE\xdf\xa3\x84webm" + text,
    "behind_a_movie": lambda text: b"\0\0\0\x14ftypisom\0\0\0\0isom" + text,
    "behind_a_riff": lambda text: b"RIFF\xff\0\0\0AVI " + text,
    "behind_a_flv": lambda text: b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + text,
    "behind_a_stream": lambda text: (b"G\x1f\xff\x10".ljust(188, b"\xff")) * 7 + text,
}


NAMES = sorted(playlists(Path("/x/y"), 1))


@pytest.mark.parametrize("name", NAMES)
def test_playlists_open_nothing(name, canary, tmp_path, monkeypatch):
    text = playlists(canary.path, canary.port)[name].encode()
    monkeypatch.chdir(canary.path.parent)
    canary.touched()
    for disguise, wrap in DISGUISES.items():
        data = wrap(text)
        (tmp_path / "x.m3u8").write_bytes(data)
        for load in (load_video, load_audio):
            for source in (data, tmp_path / "x.m3u8"):
                with pytest.raises(InputError) as refusal:
                    load(source)
                assert refusal.value.code.split("_")[0] in {"video", "audio"}, disguise
        assert not canary.touched(), disguise


def test_the_canary_sings(canary):
    (canary.path.parent / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile {canary.path.name}\n")
    assert not canary.touched()
    with av.open(str(canary.path.parent / "list.ffconcat"), options={"safe": "0"}):
        pass
    assert canary.touched()
    with pytest.raises(av.FFmpegError):
        av.open(f"http://127.0.0.1:{canary.port}/", timeout=0.3)
    assert canary.touched()


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I", len(content) + 8) + kind + content


def alias(path):
    """A reference to another file, as QuickTime writes it."""
    name = path.name.encode()
    content = b"\0" * 10 + b"\x04disk".ljust(28, b"\0") + b"\0" * 12 + bytes([len(name)]) + name.ljust(63, b"\0")
    content += b"\0" * 16 + struct.pack(">hh", 0, 0) + b"\0" * 16
    full = str(path).encode()
    for kind, text in ((2, full), (0, str(path.parent).encode()), (18, full)):
        content += struct.pack(">HH", kind, len(text)) + text + b"\0" * (len(text) % 2)
    return box(b"alis", b"\0\0\0\0", content + struct.pack(">HH", 0xFFFF, 0))


def replaced(data, kind, made):
    """The movie with one box in place of another, the sizes of those around it mended."""
    at = data.index(kind) - 4
    size = int.from_bytes(data[at : at + 4], "big")
    grown, data = len(made) - size, bytearray(data)
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        where = data.rindex(parent, 0, at) - 4
        data[where : where + 4] = struct.pack(">I", int.from_bytes(data[where : where + 4], "big") + grown)
    data[at : at + size] = made
    return bytes(data)


def test_a_movie_refers_to_no_other_file(canary, video_file, tmp_path):
    data = video_file([number / 30 for number in range(8)], "mov")
    data = replaced(data, b"dref", box(b"dref", b"\0\0\0\0\0\0\0\1", alias(canary.path)))
    canary.touched()
    for kind in (load_video, load_audio):
        for source in (data, tmp_path / "a.mov"):
            (tmp_path / "a.mov").write_bytes(data)
            try:
                kind(source)
            except InputError:
                pass
    assert not canary.touched()
    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(tmp_path / "a.mov"), options=options) as container:
        list(container.demux())
    assert canary.touched()  # what would have happened


def test_every_demuxer_is_named_and_can_open_nothing(canary, video_file, monkeypatch, tmp_path):
    opened = []
    plain = av.open

    def recorded(file, *arguments, **options):
        opened.append((file, arguments, options))
        return plain(file, *arguments, **options)

    samples = {kind: video_file([0, 0.1, 0.2], kind) for kind in ("mp4", "matroska", "mpegts", "flv", "h264")}
    (tmp_path / "a.mp4").write_bytes(samples["mp4"])
    monkeypatch.setattr(av, "open", recorded)
    for source in [*samples.values(), tmp_path / "a.mp4"]:
        VideoProcessor()(source, audio=True)
    assert len(opened) >= 12
    for file, arguments, options in opened:
        assert not isinstance(file, str | os.PathLike) and not hasattr(file, "name") and not arguments
        assert options["format"] and options["options"]["format_whitelist"].startswith(options["format"])
        assert options["options"]["protocol_whitelist"] == ""
        with pytest.raises(PermissionError):
            options["io_open"](str(canary.path), 1, {})


FOLLOWING = {
    "concat", "dash", "ffmetadata", "hds", "hls", "image2", "image2pipe", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp",
    "smoothstreaming", "tedcaptions", "vobsub", "webvtt", "srt", "ass", "tty", "data", "alsa", "fbdev", "kmsgrab",
    "oss",     "x11grab", "video4linux2,v4l2", "rawvideo", "bin", "mpjpeg", "libopenmpt",
}  # fmt: skip


def test_no_bytes_choose_a_demuxer_that_opens_others(canary):
    from processors.decode.container import format as formats

    by_rule = {"mpeg", "mpegvideo", "m4v", "vc1", "hevc", "h264", "mpegts", "mp3", "aac", "loas", "ac3", "eac3", "mxf"}
    names = (
        {name for _, _, name in formats._MAGIC} | set(formats._RIFF.values()) | set(formats._FORM.values()) | by_rule
    )
    assert not names & FOLLOWING
    for name in names - {formats.MOV, formats.MATROSKA}:
        assert av.ContainerFormat(name, "r").is_input, name
    rng = np.random.default_rng(5)
    for length in (0, 1, 2, 3, 4, 5, 8, 12, 64, 188, 5000):
        for _ in range(40):
            made = container_format(io.BytesIO(rng.bytes(length)))
            assert made is None or made in names | {formats.MOV}


@pytest.mark.parametrize(
    ("codec", "container", "demuxer"),
    [
        ("libx264", "mp4", "mov,mp4,m4a,3gp,3g2,mj2"), ("libx264", "3gp", "mov,mp4,m4a,3gp,3g2,mj2"),
        ("libx264", "matroska", "matroska,webm"), ("libvpx", "webm", "matroska,webm"), ("mpeg4", "avi", "avi"),
        ("libx264", "mpegts", "mpegts"), ("libx264", "flv", "flv"), ("mpeg2video", "mpeg", "mpeg"),
        ("mpeg2video", "vob", "mpeg"), ("mpeg1video", "mpeg1video", "mpegvideo"), ("libx264", "h264", "h264"),
        ("libx265", "hevc", "hevc"), ("mpeg4", "m4v", "m4v"), ("libvpx", "ivf", "ivf"), ("mpeg4", "nut", "nut"),
        ("mpeg2video", "mxf", "mxf"), ("mjpeg", "mjpeg", "mjpeg"), ("wmv2", "asf", "asf"),
        ("libsvtav1", "obu", "obu"), ("rawvideo", "yuv4mpegpipe", "yuv4mpegpipe"),
    ],
)  # fmt: skip
def test_containers_that_ffmpeg_writes_are_told(codec, container, demuxer):
    from fractions import Fraction

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        track = file.add_stream(codec, rate=25)
        track.width, track.height = 64, 64
        track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
    data = buffer.getvalue()
    assert container_format(io.BytesIO(data)) == demuxer
    levels = [int(frame.mean()) for frame in load_video(data, num_frames=4)]
    assert len(levels) >= 4 and levels == sorted(levels) and levels[-1] > levels[0] + 60


@pytest.mark.parametrize(
    ("codec", "container", "demuxer"),
    [
        ("libmp3lame", "mp3", "mp3"), ("aac", "adts", "aac"), ("aac", "ipod", "mov,mp4,m4a,3gp,3g2,mj2"),
        ("libopus", "ogg", "ogg"), ("flac", "flac", "flac"), ("pcm_s16le", "wav", "wav"), ("pcm_s16be", "aiff", "aiff"),
        ("pcm_s16be", "caf", "caf"), ("pcm_s16be", "au", "au"), ("pcm_s16le", "w64", "w64"), ("ac3", "ac3", "ac3"),
        ("eac3", "eac3", "eac3"), ("mp2", "mp2", "mp3"), ("wavpack", "wv", "wv"), ("tta", "tta", "tta"),
        ("aac", "latm", "loas"), ("pcm_u8", "voc", "voc"), ("pcm_s16le", "rf64", "wav"),
    ],
)  # fmt: skip
def test_audio_containers_too(codec, container, demuxer):
    from fractions import Fraction

    options, name = ({"rf64": "always"}, "wav") if container == "rf64" else ({}, container)
    buffer, rate = io.BytesIO(), 48_000
    with av.open(buffer, "w", format=name, options=options) as file:
        track = file.add_stream(codec, rate=rate, layout="stereo", options={"strict": "-2"})
        samples = np.tile(0.3 * np.sin(np.arange(rate) / 20), (2, 1)).astype(np.float32)
        resampler = av.AudioResampler(track.format.name, "stereo", rate, frame_size=track.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(track.encode(piece))
        file.mux(track.encode(None))
    data = buffer.getvalue()
    assert container_format(io.BytesIO(data)) == demuxer
    assert len(load_audio(data)) / 16_000 == pytest.approx(1, abs=0.1)
