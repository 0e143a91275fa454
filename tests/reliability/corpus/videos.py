"""Videos: clocks that begin again or stand still, rare containers, animations, playlists in a video's place, damage."""

import itertools
import struct
from typing import Any

import numpy as np

import omni
from processors import VideoConfig, VideoProcessor, load_audio, load_video, sniff
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo

CASES = Table("video")
DAMAGED = Refused("video_*")


def frames(count: int) -> Value:
    return Value(lambda found: len(found) == count, f"of {count} frames")


def seen(source: Any, **options: Any) -> tuple[list[int], list[float]]:
    """The grey levels and times of the sampled frames."""
    config = VideoConfig(patch_size=16, min_pixels=1024, max_pixels=64 * 64)
    features = VideoProcessor(config)(source, **options)
    pixels = load_video(source, config=config, **options)
    return [int(frame[30, 30, 0]) for frame in pixels], [float(time) for time in features.timestamps]


for container, codec in (
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("matroska", "libx264"),
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("avi", "mjpeg"),
    ("mpegts", "libx264"),
    ("flv", "flv"),
    ("mpeg", "mpeg2video"),
    ("h264", "libx264"),
    ("asf", "wmv2"),
    ("3gp", "mpeg4"),
    ("mp4", "libx265"),
    ("mp4", "mpeg4"),
    ("mov", "mjpeg"),
):
    CASES.add(
        f"whole {codec} in {container}",
        lambda c=container, k=codec: media.video([20 + 9 * n for n in range(20)], 25, k, c, options={}),
        lambda data: load_video(data, num_frames=4),
        frames(4),
    )
    CASES.add(
        f"kind of {codec} in {container}",
        lambda c=container, k=codec: media.video([20 + 9 * n for n in range(20)], 25, k, c, options={}),
        sniff,
        Value(lambda kind: kind == "video"),
    )
for container in ("avi", "mov"):
    CASES.add(
        f"motion JPEG with EXIF in {container}",
        lambda c=container: media.motion_jpeg_with_exif(c),
        lambda data: seen(data, num_frames=10)[0],
        Value(lambda levels: all(abs(a - 20 * n) < 8 for n, a in enumerate(levels))),
    )
CASES.add(
    "a screen whose frames come seldom",
    lambda: media.video([20, 90, 160, 220], times=[0.0, 5.0, 10.0, 30.0]),
    lambda data: seen(data)[1],
    Value(lambda times: all(a < b for a, b in itertools.pairwise(times)), "with rising times"),
)
CASES.add(
    "frames of an uneven rate",
    lambda: media.video(
        range(20, 120, 5), times=[round(0.04 * n + 0.03 * (n % 3) + 0.05 * (n // 3), 3) for n in range(20)]
    ),
    lambda data: seen(data)[1],
    Value(lambda times: all(np.diff(times) > 0)),
)
CASES.add("one frame", lambda: media.video([90]), load_video, Value(lambda found: len(found) >= 1))
CASES.add(
    "one frame, encoded",
    lambda: media.video([90]),
    lambda data: demo().encode(data),
    Value(lambda e: e.kind == "video"),
)


def joined(offset: float) -> bytes:
    """Two transport streams end to end: the first gets darker, the second lighter."""
    dark = media.video([200 - 2 * n for n in range(100)], container="mpegts", samples=media.tone(4, 48_000))
    light = media.video([2 * n for n in range(100)], container="mpegts", samples=media.tone(4, 48_000), offset=offset)
    return dark + light


def falls_then_rises(found: tuple[list[int], list[float]]) -> bool:
    levels, times = found
    turn = levels.index(min(levels))
    falls = all(a >= b - 4 for a, b in itertools.pairwise(levels[:turn]))
    rises = all(a <= b + 4 for a, b in itertools.pairwise(levels[turn:]))
    return falls and rises and len(levels) == 16 and abs(times[-1] - 7.5) < 0.3 and all(np.diff(times) > 0)


for name, offset in (("the same clock", 0.0), ("overlapping clocks", 2.013), ("a gap", 60.0)):
    CASES.add(
        f"two transport streams joined, {name}: audio",
        lambda o=offset: joined(o),
        load_audio,
        Value(lambda samples: abs(len(samples) / 16_000 - 8) < 0.3 or len(samples) / 16_000 > 60),
    )
    if name != "a gap":
        CASES.add(
            f"two transport streams joined, {name}: frames", lambda o=offset: joined(o), seen, Value(falls_then_rises)
        )
for form in ("GIF", "PNG", "WEBP", "AVIF"):
    CASES.add(
        f"animated {form} as a video",
        lambda f=form: media.animation(f, 6),
        load_video,
        Value(lambda found: len(found) in (4, 6) and found[-1, 5, 5, 0] > found[0, 5, 5, 0]),
    )
    CASES.add(
        f"see-through animated {form} as a video",
        lambda f=form: media.animation(f, 6, clear=True),
        load_video,
        Value(lambda found: (found[0][30, 30] == 255).all()),
    )
CASES.add("a picture as a video", lambda: media.image_bytes(), load_video, Either(Value(), Refused("video_*")))
CASES.add("a sound as a video", lambda: media.audio_bytes(media.tone(1)), load_video, DAMAGED)
CASES.add("an MP3 with a cover as a video", lambda: media.audio_bytes(media.tone(1), form="MP3"), load_video, DAMAGED)
CASES.add(
    "audio of a clip without audio",
    lambda: media.clip(),
    lambda data: VideoProcessor()(data, audio=True).audio,
    Value(lambda found: found is None),
)
CASES.add(
    "audio of a clip with audio",
    lambda: media.clip(20, audio=True),
    lambda data: VideoProcessor()(data, audio=True).audio,
    Value(lambda found: abs(len(found) / 16_000 - 2) < 0.1),
)
CASES.add(
    "audio asked of frames",
    lambda: np.zeros((4, 32, 32, 3), np.uint8),
    lambda a: demo().encode(omni.Video(a, audio=True)),
    Either(Value(), Refused("*audio*")),
)

# --- playlists and descriptions: FFmpeg would read and fetch what they name -------------------------------------------
LISTS = {
    "ffconcat": b"ffconcat version 1.0\nfile private.mp4\n",
    "ffconcat with a letter that is not ASCII": b"ffconcat version 1.0\n# \xc3\xa9\nfile private.mp4\n",
    "ffconcat behind a byte order mark": b"\xef\xbb\xbfffconcat version 1.0\nfile private.mp4\n",
    "ffconcat with a zero": b"ffconcat version 1.0\n#\0\nfile private.mp4\n",
    "m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nprivate.mp4\n#EXT-X-ENDLIST\n",
    "m3u8 with a letter that is not ASCII": "#EXTM3U\n# é\n#EXTINF:10,\nprivate.mp4\n#EXT-X-ENDLIST\n".encode(),
    "m3u8 of an address": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n# é\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n".encode(),
    "SDP": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=é\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 34567 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ).encode(),
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><!-- é --><Period/></MPD>'.encode(),
    "smooth streaming": "<SmoothStreamingMedia><!-- é --></SmoothStreamingMedia>".encode(),
    "image2 pattern": b"\x00pattern%03d.png",
    "concat protocol": b"concat:private.mp4|private.mp4\xff",
    "subfile protocol": b"subfile,,start,0,end,99,,:private.mp4\xff",
    "RTSP reference": b"RTSPtextRTSP://127.0.0.1/\xff",
    "ASX": "<ASX><ENTRY><REF HREF='private.mp4'/><!-- é --></ENTRY></ASX>".encode(),
    "PLS": b"[playlist]\nFile1=private.mp4\n\xff",
    "WebVTT": "WEBVTT\n\n00:00.000 --> 00:09.000\né\n".encode(),
    "SubRip": "1\n00:00:00,000 --> 00:00:09,000\né\n".encode(),
    "IMF": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">é</CompositionPlaylist>'.encode(),
    "ffmetadata": b";FFMETADATA1\ntitle=\xc3\xa9\n",
    "lavfi": b"testsrc=duration=9\xff",
}


def beside(data: bytes) -> bytes:
    """A list in a folder that holds the video which it names."""
    with open("private.mp4", "wb") as file:
        file.write(media.clip())
    return data


def named(data: bytes, suffix: str) -> str:
    beside(data)
    with open(f"list.{suffix}", "wb") as file:
        file.write(data)
    return f"list.{suffix}"


NOT_MEDIA = Refused(
    "video_unknown_format",
    "media_unknown",
    "video_playlist",
    "audio_unknown_format",
    "video_corrupt",
    "video_no_track",
    "source_not_media",
    "video_not_allowed",
)
for name, data in LISTS.items():
    CASES.add(f"{name} as a video", lambda d=data: beside(d), load_video, NOT_MEDIA)
    CASES.add(f"{name} as audio", lambda d=data: beside(d), load_audio, Refused("audio_*", "media_unknown"))
    CASES.add(
        f"{name} in a file of its own kind",
        lambda d=data, n=name: named(d, {"ffconcat": "ffconcat", "m3u8": "m3u8"}.get(n.split()[0], "sdp")),
        load_video,
        NOT_MEDIA,
    )
CASES.add(
    "ffconcat in a message",
    lambda: (
        [
            {
                "role": "user",
                "content": [
                    {
                        "type": "video_url",
                        "video_url": {
                            "url": "data:video/mp4;base64,ZmZjb25jYXQgdmVyc2lvbiAxLjAKIyDDqQpmaWxlIHByaXZhdGUubXA0Cg=="
                        },
                    }
                ],
            }
        ]
        if beside(b"") == b""
        else []
    ),
    lambda messages: demo().prepare(messages),
    NOT_MEDIA,
)
REFERENCE = media.box(b"dref", bytes(4), struct.pack(">I", 1), media.box(b"url ", bytes(4), b"file:private.mp4\0"))
CASES.add(
    "QuickTime whose samples lie in another file",
    lambda: beside(media.clip(container="mov").replace(b"url \0\0\0\1", b"url \0\0\0\0")),
    load_video,
    Either(Value(), DAMAGED),
)

# --- damage -----------------------------------------------------------------------------------------------------------
for container, codec in (
    ("mp4", "libx264"),
    ("matroska", "libx264"),
    ("webm", "libvpx"),
    ("avi", "mpeg4"),
    ("flv", "flv"),
    ("asf", "wmv2"),
):
    for share in (0.02, 0.5, 0.9):
        CASES.add(
            f"{codec} in {container} cut at {share}",
            lambda c=container, k=codec, s=share: media.cut(
                media.video([20 + 5 * n for n in range(40)], 25, k, c, options={}), s
            ),
            load_video,
            DAMAGED,
        )
for container, codec in (("matroska", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4")):
    CASES.add(
        f"{codec} in {container} with a hole of zeros",
        lambda c=container, k=codec: media.zeroed(media.video([20 + 5 * n for n in range(40)], 25, k, c, options={})),
        load_video,
        DAMAGED,
    )
CASES.add("MP4 without its header", lambda: media.clip()[: media.clip().index(b"moov") - 4], load_video, DAMAGED)
CASES.add("MP4 of an empty header", media.box(b"ftyp", b"isom\0\0\2\0isom") + media.box(b"moov"), load_video, DAMAGED)
CASES.add(
    "MP4 whose box is of 2^64 bytes",
    struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + struct.pack(">I", 1) + b"free" + b"\xff" * 8,
    sniff,
    Either(Value(), Refused("media_unknown")),
)
CASES.add(
    "MP4 whose box is of 2^64 bytes, encoded",
    struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + struct.pack(">I", 1) + b"free" + b"\xff" * 8,
    lambda data: demo().encode(data),
    Refused("media_unknown", "video_*", "audio_*"),
)
CASES.add(
    "MP4 whose box is of 2^63 bytes",
    struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + struct.pack(">I", 1) + b"mdat" + (2**63 - 1).to_bytes(8, "big"),
    sniff,
    Either(Value(), Refused("media_unknown")),
)
CASES.add("MP4 whose boxes nest 500 deep", lambda: media.box(b"ftyp", b"isom") + nested(500), load_video, DAMAGED)
CASES.add(
    "EBML header alone",
    b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm",
    load_video,
    DAMAGED,
)
CASES.add("sync bytes without packets", b"G" + (bytes(187) + b"G") * 40, load_video, DAMAGED)
CASES.add("YUV4MPEG2 of words", b"YUV4MPEG2 Wwide Hhigh F1:1\nFRAME\n", load_video, DAMAGED)
CASES.add("YUV4MPEG2 of no size", b"YUV4MPEG2 W0 H0 F25:1\nFRAME\n", load_video, DAMAGED)
CASES.add(
    "raw YUV4MPEG2",
    lambda: b"YUV4MPEG2 W32 H32 F25:1\n" + (b"FRAME\n" + bytes(1536)) * 5,
    load_video,
    Value(lambda found: found.shape[1:] == (32, 32, 3)),
)
CASES.add("words in a video's place", b"these are no frames " * 30, load_video, DAMAGED)
CASES.add("an empty video", b"", load_video, Refused("source_empty"))


def nested(depth: int) -> bytes:
    found = b""
    for _ in range(depth):
        found = media.box(b"moov", found)
    return found


for low, high in ((0, 5), (10, 5), (4 * 10**8, 5 * 10**8)):
    CASES.add(
        f"clip of min_pixels {low}, max_pixels {high}",
        lambda a=low, b=high: (a, b),
        lambda given: VideoProcessor()(media.clip(), min_pixels=given[0], max_pixels=given[1]),
        Refused("pixel_limits", "video_too_large", "image_too_large", "too_many_tokens", "bad_option"),
    )
