"""What media are taken for: by structure, whatever lies before it, and never by a name."""

import array
import io
import struct
import time

import numpy as np
import pytest
import soundfile
from PIL import Image

from processors import InputError, load_image, sniff
from processors.io.byte_window import ByteWindow
from processors.io.sniffing import sniff_stream

av = pytest.importorskip("av")


def picture(form, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), "teal").save(buffer, form, **options)
    return buffer.getvalue()


def audio(form, seconds=0.5):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.RandomState(0).randn(int(16_000 * seconds)) * 0.1, 16_000, format=form)
    return buffer.getvalue()


def muxed(container, audio_codec=None, video_codec=None, *, cover=None, options=None, rate=48_000):
    """A file of a container with 20 frames, a second of noise, or both; a cover is an attached picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as file:
        tracks = []
        if video_codec:
            video = file.add_stream(video_codec, rate=25)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            tracks.append(video)
        if audio_codec:
            voice = file.add_stream(audio_codec, rate=rate, layout="mono")
            voice.bit_rate = 64_000
            tracks.append(voice)
        if cover:
            art = file.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 64, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
            packets = [*art.encode(frame.reformat(format="yuvj420p")), *art.encode(None)]
            for packet in packets:
                file.mux(packet)
        if video_codec:
            for number in range(20):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 9 * number, np.uint8), format="rgb24")
                frame.pts = number
                file.mux(video.encode(frame))
            file.mux(video.encode(None))
        if audio_codec:
            noise = (np.random.RandomState(0).randn(1, rate) * 0.1).astype(np.float32)
            whole = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            whole.sample_rate, whole.pts = rate, 0
            fifo = av.AudioFifo()
            for piece in av.AudioResampler(format=voice.format.name, layout="mono", rate=rate).resample(whole):
                fifo.write(piece)
            while (piece := fifo.read(voice.frame_size or 1024, partial=True)) is not None:
                file.mux(voice.encode(piece))
            file.mux(voice.encode(None))
    return buffer.getvalue()


def id3(payload=b"", footer=False):
    length = len(payload)
    size = bytes((length >> shift) & 127 for shift in (21, 14, 7, 0))
    head = b"ID3\x04\x00" + (b"\x10" if footer else b"\x00") + size
    return head + payload + (b"3DI" + head[3:] if footer else b"")


def ape(payload=b"x" * 40):
    return b"APETAGEX" + struct.pack("<IIII", 2000, len(payload), 1, 1 << 31) + bytes(8) + payload


def box(kind, *parts):
    data = b"".join(parts)
    return struct.pack(">I", len(data) + 8) + kind + data


def track(handler, number=1, chapters=()):
    refers = [box(b"tref", box(b"chap", struct.pack(f">{len(chapters)}I", *chapters)))] if chapters else []
    return box(
        b"trak",
        box(b"tkhd", bytes(12), struct.pack(">I", number), bytes(68)),
        *refers,
        box(b"mdia", box(b"mdhd", bytes(24)), box(b"hdlr", bytes(8), handler, bytes(13))),
    )


def movie(*tracks, brand=b"isom"):
    return box(b"ftyp", brand, bytes(4), b"isommp42") + box(b"moov", box(b"mvhd", bytes(100)), *tracks)


def ogg_page(payload, serial, first=True):
    lengths = bytes([255] * (len(payload) // 255) + [len(payload) % 255])
    head = b"OggS\x00" + (b"\x02" if first else b"\x00") + bytes(8) + struct.pack("<IIIB", serial, 0, 0, len(lengths))
    return head + lengths + payload


@pytest.mark.parametrize(
    "form",
    [
        "PNG",
        "JPEG",
        "GIF",
        "BMP",
        "DIB",
        "TIFF",
        "WEBP",
        "PPM",
        "AVIF",
        "ICO",
        "JPEG2000",
        "ICNS",
        "TGA",
        "PCX",
        "SGI",
        "DDS",
        "QOI",
        "MPO",
    ],
)
def test_pictures_are_told_by_their_bytes(form, tmp_path):
    path = tmp_path / "picture.mp3"
    path.write_bytes(picture(form))
    assert sniff(path) == sniff(path.read_bytes()) == "image"


@pytest.mark.parametrize("place", range(188, 188 + 8))
def test_a_palette_is_no_transport_stream(place):
    palette = [0x47] * 768
    image = Image.fromarray((np.arange(4096) % 256).astype(np.uint8).reshape(64, 64)).convert("P")
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "GIF", optimize=False)
    assert buffer.getvalue()[place : place + 1] == b"G" and sniff(buffer.getvalue()) == "image"


def test_an_animation_of_avif_is_an_image():
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:])
    assert buffer.getvalue()[8:12] == b"avis" and sniff(buffer.getvalue()) == "image"


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_heif_is_an_image(brand):
    data = box(b"ftyp", brand, bytes(4), b"mif1heic") + box(
        b"meta", bytes(4), box(b"hdlr", bytes(8), b"pict", bytes(13))
    )
    assert sniff(data) == "image"
    odd = box(b"ftyp", b"xyz1", bytes(4), b"mif1") + box(b"meta", bytes(4), box(b"hdlr", bytes(8), b"pict", bytes(13)))
    assert sniff(odd) == "image"


@pytest.mark.parametrize(
    "form",
    ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "RF64", "CAF", "W64", "WAVEX", "SVX", "VOC", "NIST", "PVF", "AVR"],
)
def test_audio_is_told_by_its_bytes(form):
    assert sniff(audio(form)) == "audio"


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("matroska", "libx264"),
        ("webm", "libvpx"),
        ("avi", "mpeg4"),
        ("mpegts", "libx264"),
        ("flv", "libx264"),
        ("mpeg", "mpeg2video"),
        ("vob", "mpeg2video"),
        ("h264", "libx264"),
        ("asf", "libx264"),
        ("3gp", "mpeg4"),
        ("ivf", "libvpx"),
        ("mpegts", "mpeg2video"),
        ("mpeg2video", "mpeg2video"),
        ("ogg", "libvpx"),
        ("nut", "mpeg4"),
        ("ismv", "libx264"),
        ("yuv4mpegpipe", "rawvideo"),
        ("mxf", "mpeg2video"),
        ("hevc", "libx265"),
        ("rm", "rv10"),
        ("mpegts", "libx265"),
    ],
)
def test_videos_are_told_by_their_bytes(container, codec):
    assert sniff(muxed(container, video_codec=codec)) == "video"


AUDIO_ALONE = [
    ("mp4", "aac"),
    ("mov", "pcm_s16le"),
    ("ipod", "aac"),
    ("3gp", "aac"),
    ("matroska", "aac"),
    ("webm", "libopus"),
    ("adts", "aac"),
    ("mpegts", "aac"),
    ("mpegts", "mp2"),
    ("mpegts", "ac3"),
    ("mpegts", "libopus"),
    ("flv", "aac"),
    ("flv", "libmp3lame"),
    ("asf", "wmav2"),
    ("avi", "pcm_s16le"),
    ("mpeg", "mp2"),
    ("vob", "ac3"),
    ("ogg", "libopus"),
    ("ogg", "flac"),
    ("mp3", "libmp3lame"),
    ("mp2", "mp2"),
    ("ac3", "ac3"),
    ("eac3", "eac3"),
    ("caf", "pcm_s16le"),
    ("w64", "pcm_s16le"),
    ("au", "pcm_s16be"),
    ("tta", "tta"),
    ("wv", "wavpack"),
    ("rm", "ac3"),
]


@pytest.mark.parametrize(("container", "codec"), AUDIO_ALONE)
@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_a_container_of_audio_alone_is_audio(container, codec, rate):
    if codec == "libopus" and rate != 48_000:
        rate = 24_000
    assert sniff(muxed(container, codec, rate=rate)) == "audio"


@pytest.mark.parametrize(
    ("container", "audio_codec", "video_codec"),
    [
        ("mpegts", "aac", "libx264"),
        ("flv", "aac", "libx264"),
        ("mpeg", "mp2", "mpeg2video"),
        ("mp4", "aac", "libx264"),
        ("matroska", "aac", "libx264"),
        ("asf", "wmav2", "mpeg4"),
        ("avi", "mp2", "mpeg4"),
        ("ogg", "libopus", "libvpx"),
    ],
)
def test_audio_beside_video_is_a_video(container, audio_codec, video_codec):
    assert sniff(muxed(container, audio_codec, video_codec)) == "video"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("mp3", "libmp3lame"), ("flac", "flac")])
def test_a_cover_is_no_video(container, codec):
    assert sniff(muxed(container, codec, cover=True)) == "audio"


def test_a_cover_in_matroska_is_an_attachment():
    plain = muxed("matroska", "aac")
    attached = b"\x61\xa7" + bytes([0x80 | 30]) + b"\x46\x6e\x84V_AB" + b"\x46\x5c\x92" + b"\x86\x85V_MPEG" + bytes(10)
    element = b"\x19\x41\xa4\x69" + bytes([0x80 | len(attached)]) + attached
    segment = plain.index(b"\x18\x53\x80\x67")
    # Before the tracks, and the size of the segment unknown, as in a live stream.
    data = plain[: segment + 4] + b"\x01" + b"\xff" * 7 + element + plain[segment + 12 :]
    assert sniff(data) == "audio"


@pytest.mark.parametrize(
    ("tracks", "kind"),
    [
        ([track(b"soun")], "audio"),
        ([track(b"soun"), track(b"text", 2), track(b"sbtl", 3)], "audio"),
        ([track(b"soun", 1, [2]), track(b"vide", 2)], "audio"),
        ([track(b"soun", 1, [3]), track(b"vide", 2), track(b"vide", 3)], "video"),
        ([track(b"vide")], "video"),
        ([box(b"junk", bytes(900))] * 40 + [track(b"vide")], "video"),
    ],
)
@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"M4A ", b"qt  ", b"3gp5", b"dash"])
def test_tracks_decide_and_not_the_brand(tracks, kind, brand):
    assert sniff(movie(*tracks, brand=brand)) == kind
    late = box(b"ftyp", brand, bytes(4)) + box(b"free", bytes(99)) + box(b"mdat", bytes(5000)) + movie(*tracks)[24:]
    assert sniff(late) == kind
    if brand == b"qt  ":
        assert sniff(box(b"mdat", bytes(5000)) + movie(*tracks)[24:]) == kind


@pytest.mark.parametrize(
    ("starts", "kind"),
    [
        ([b"\x01vorbis" + bytes(23)], "audio"),
        ([b"fishead\x00" + bytes(56), b"\x80theora" + bytes(35), b"\x01vorbis" + bytes(23)], "video"),
        ([b"\x80kate\x00\x00\x00" + bytes(56), b"\x01vorbis" + bytes(23)], "audio"),
        ([b"\x01vorbis" + bytes(23), b"BBCD\x00" + bytes(12)], "video"),
        ([b"OpusHead" + bytes(11), b"OVP80\x01" + bytes(20)], "video"),
        ([b"fishead\x00" + bytes(56), b"OpusHead" + bytes(11)], "audio"),
    ],
)
def test_streams_that_begin_together_in_ogg(starts, kind):
    data = b"".join(ogg_page(start, number) for number, start in enumerate(starts))
    cover = ogg_page(b"\x03vorbis METADATA_BLOCK_PICTURE=\x80theora OVP80" * 400, 0, first=False)
    assert sniff(data + cover) == kind


@pytest.mark.parametrize(
    "before",
    [
        id3(),
        id3(bytes(200)),
        id3(bytes(100_000)),
        id3(b"\xff\xfb\x90\x64G" * 40_000),
        id3(bytes(60), footer=True),
        id3(b"a") + id3(b"b"),
        ape(),
        id3(b"x") + ape(),
    ],
)
def test_tags_may_stand_before_audio(before):
    adts = muxed("adts", "aac")
    for data in (audio("FLAC"), audio("MP3"), adts, audio("WAV"), audio("AIFF"), muxed("ac3", "ac3"), b"damaged"):
        assert sniff(before + data) == "audio"
    assert sniff(before + muxed("mp4", video_codec="libx264")) == "video"


@pytest.mark.parametrize("before", [bytes(10), bytes(5000), bytes(300_000), b"\xff" * 3 + bytes(50), b"garbage " * 40])
def test_zeros_or_garbage_may_stand_before_frames_of_audio(before):
    for data in (muxed("mp3", "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"}), muxed("adts", "aac")):
        assert sniff(before + data) == "audio"


@pytest.mark.parametrize("offset", [0, 4, 16, 100, 187, 188, 600])
@pytest.mark.parametrize("kind", ["audio", "video"])
def test_transport_streams_begin_anywhere(offset, kind):
    data = muxed("mpegts", "aac") if kind == "audio" else muxed("mpegts", "aac", "libx264")
    assert sniff(bytes(offset) + data) == kind
    stamped = b"".join(bytes(4) + data[at : at + 188] for at in range(0, len(data), 188))
    guarded = b"".join(data[at : at + 188] + bytes(16) for at in range(0, len(data), 188))
    assert sniff(stamped) == sniff(guarded) == sniff(data[188 * 3 :]) == kind


@pytest.mark.parametrize("before", [b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xff", b"\xff\xff", bytes(16), b" \t"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "PPM"])
def test_little_things_may_stand_before_a_picture(before, form):
    data = before + picture(form)
    assert sniff(data) == "image"
    np.testing.assert_array_equal(load_image(data), load_image(picture(form)))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\xef\xbb\xbf\n <svg/>", "SVG"),
        ('<svg width="1"/>'.encode("utf-16"), "SVG"),
        (b"\xff\x0a\xfa\x1f\x41\x91\x08\x06", "JPEG XL"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "metafile"),
        (b"v/1\x01" + bytes(40), "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance"),
        (b"FUJIFILMCCD-RAW ", "raw file"),
        (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01", "raw file"),
        (b"PK\x03\x04" + bytes(40), "ZIP"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"MThd\x00\x00\x00\x06", "MIDI"),
        (b"qoaf" + bytes(40), "QOA"),
        (b"P7\nWIDTH 1\n", "PAM"),
    ],
)
def test_what_cannot_be_read_is_named(data, word):
    for call, code in ((sniff, "media_unknown"), (load_image, "image_unknown_format")):
        with pytest.raises(InputError, match=word) as refusal:
            call(data)
        assert refusal.value.code == code


class Buffered:
    """What has numbers and shows them one way only."""

    def __init__(self, values, way):
        setattr(self, way, getattr(values, way))


def test_decoded_media_are_told_by_their_shape():
    frame = np.zeros((32, 32, 3), np.uint8)
    assert sniff(frame) == sniff(frame[..., 0]) == sniff(Image.fromarray(frame)) == "image"
    assert sniff(np.stack([frame] * 2)) == sniff([frame, frame]) == sniff([Image.fromarray(frame)]) == "video"
    assert (
        sniff(np.zeros(16_000)) == sniff(np.zeros((2, 16_000), np.float32)) == sniff(np.zeros(99, np.int16)) == "audio"
    )


def test_an_object_whose_shape_raises_is_refused():
    class Hostile:
        @property
        def shape(self):
            raise RuntimeError("no")

        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("at 0x7f00dead0000")

    for call in (sniff, load_image):
        with pytest.raises(InputError) as refusal:
            call(Hostile())
        assert refusal.value.code == "array_unreadable" and "0x" not in str(refusal.value)


def test_arrays_of_other_libraries_are_told_by_their_shape():
    frame = np.zeros((32, 32, 3), np.uint8)
    assert sniff(memoryview(frame)) == sniff(Buffered(frame, "__array_interface__")) == "image"
    assert sniff(array.array("f", [0.0] * 99)) == sniff(memoryview(np.zeros(99, np.float32))) == "audio"
    assert sniff(memoryview(np.stack([frame] * 2))) == "video"

    class Shared:
        def __dlpack__(self, **options):
            return frame.__dlpack__(**options)

        def __dlpack_device__(self):
            return frame.__dlpack_device__()

    assert sniff(Shared()) == "image" and load_image(Shared()).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "source",
    [
        b"plain words",
        b"\x00" * 64,
        {},
        None,
        [],
        [b"x"],
        np.zeros((2, 2, 2, 2, 2)),
        np.float32(1),
        b"FORM\0\0\0\x10ILBM",
        b"RIFF\0\0\0\x10ACON",
        b"G" + bytes(187) + b"H" * 200,
        b"\xff\xfb\x90\x64" + bytes(3000),
        "\ufeffSome text".encode("utf-16-le") * 50,
        bytes(range(256)) * 16,
    ],
)
def test_anything_else_is_refused(source):
    with pytest.raises(InputError) as refusal:
        sniff(source)
    assert refusal.value.code == "media_unknown"


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + struct.pack(">I", 1) + b"free" + struct.pack(">Q", HUGE),
        struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + box(b"free") * 100_000,
        box(b"ftyp", b"isom") + box(b"moov", *[box(b"trak")] * 10_000),
        b"\x1aE\xdf\xa3\x01" + b"\xff" * 7 + b"\x18\x53\x80\x67\x01" + b"\xfe" * 7 + b"\x16\x54\xae\x6b\x10",
        b"\x1aE\xdf\xa3\x80" + b"\xec\x80" * 100_000,
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + b"\xff" * 200,
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
        + struct.pack("<QIH", 1 << 40, 9, 0)
        + (bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365") + struct.pack("<Q", 1 << 40) + bytes(22)) * 5000,
        b"FLV\x01\x05\xff\xff\xff\xff" + bytes(100),
        b"FLV\x01\x05\x00\x00\x00\x09" + bytes(1 << 20),
        b"\x00\x00\x01\xba" * 100_000,
        b"OggS\x00\x02" + bytes(21) * 100_000,
        b"OggS" * 200_000,
        b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
        id3() * 100_000,
        ape(b"")[:12] + b"\xff\xff\xff\xff" + bytes(16),
        b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl" + b"LIST\0\0\0\0strl" * 100_000,
        b".RMF\x00\x00\x00\x0a\x00\x00" * 100_000,
        b"G" * (1 << 20),
        b"\xff\xfb\x90\x64" * 200_000,
        b"\x7f\xfe\x80\x01" * 200_000,
    ],
)
def test_a_walk_ends(data):
    """Sizes of 2**64, elements without number and without length: a kind or a refusal, soon and of few bytes."""
    began = time.perf_counter()
    try:
        assert sniff(data) in ("audio", "video")
    except InputError as refusal:
        assert refusal.code == "media_unknown"
    assert time.perf_counter() - began < 10


def test_few_bytes_are_read_of_a_large_file():
    class Counted(io.BytesIO):
        count = 0

        def read(self, size=-1):
            piece = super().read(size)
            self.count += len(piece)
            return piece

    stream = Counted(box(b"ftyp", b"isom") + box(b"mdat", bytes(1 << 25)) + movie(track(b"vide"))[24:])
    assert sniff_stream(stream) == "video" and stream.tell() == 0
    assert stream.count < 1 << 17
    noise = Counted(np.random.RandomState(1).bytes(1 << 24))
    sniff_stream(noise)
    assert noise.count < 1 << 22


def test_a_window_reads_within_its_budget():
    window = ByteWindow(io.BytesIO(bytes(100_000)), 10, budget=10_000)
    assert window.size == 99_990 and len(window.read(0, 50)) == 50
    assert window.read(-1, 5) == window.read(99_990, 5) == b"" and window.number(99_989, 2) is None
    assert sum(len(window.read(at, 10)) for at in range(0, 90_000, 5000)) < 100
