"""Audio files: lengths that headers do not know or lie about, tags, joined files, damage."""

import struct

import numpy as np

import omni
from processors import AudioProcessor, load_audio, sniff
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo

CASES = Table("audio")
DAMAGED = Refused(
    "audio_corrupt",
    "audio_truncated",
    "audio_unknown_format",
    "audio_empty",
    "audio_no_track",
    "audio_rate",
    "audio_unknown_codec",
    "audio_shape",
    "audio_too_long",
)


def endless_flac() -> bytes:
    data = media.audio_bytes(media.tone(1), form="FLAC")
    return data[:21] + b"\xff" * 5 + data[26:]


def seconds(length: float, tolerance: float = 0.08) -> Value:
    return Value(lambda samples: abs(len(samples) / 16_000 - length) <= tolerance, f"of {length} s")


for form, subtype in (
    ("WAV", None),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_U8"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "ALAW"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "GSM610"),
    ("FLAC", None),
    ("OGG", None),
    ("OGG", "OPUS"),
    ("MP3", None),
    ("AIFF", None),
    ("AU", None),
    ("CAF", None),
    ("W64", None),
    ("RF64", None),
    ("VOC", None),
    ("NIST", None),
    ("WAVEX", None),
):
    CASES.add(
        f"whole {form} {subtype or ''}".strip(),
        lambda f=form, s=subtype: media.audio_bytes(media.tone(2), 16_000, f, s),
        load_audio,
        seconds(2),
    )
for container, codec, rate in (
    ("mp4", "aac", 44_100),
    ("adts", "aac", 44_100),
    ("matroska", "aac", 48_000),
    ("webm", "libopus", 48_000),
    ("mpegts", "aac", 48_000),
    ("flv", "aac", 44_100),
    ("asf", "wmav2", 44_100),
    ("ac3", "ac3", 48_000),
    ("ogg", "flac", 44_100),
    ("caf", "alac", 44_100),
    ("aiff", "pcm_s16be", 8_000),
    ("tta", "tta", 44_100),
    ("wv", "wavpack", 44_100),
):
    CASES.add(
        f"whole {codec} in {container}",
        lambda c=container, k=codec, r=rate: media.audio_track(
            media.tone(2, r), r, k, c, 64_000 if k == "wmav2" else None
        ),
        load_audio,
        seconds(2, 0.13),
    )
for container, codec in (("mpegts", "aac"), ("flv", "aac"), ("matroska", "aac"), ("asf", "wmav2"), ("mp4", "aac")):
    CASES.add(
        f"kind of {container} without pictures",
        lambda c=container, k=codec: media.audio_track(
            media.tone(2, 44_100), 44_100, k, c, 64_000 if k == "wmav2" else None
        ),
        sniff,
        Value(lambda kind: kind == "audio"),
    )
for rate in (8_000, 11_025, 22_050, 44_100, 48_000):
    CASES.add(
        f"MP3 of constant rate without a header, {rate} Hz",
        lambda r=rate: media.mp3(media.hiss(3, r), r),
        load_audio,
        seconds(3, 0.25 if rate == 8_000 else 0.15),
    )
CASES.add(
    "MP3 of variable rate without a header",
    lambda: media.mp3(np.concatenate([media.tone(3, 44_100, level=0.01), media.hiss(3, 44_100)]), 44_100, quality=4),
    load_audio,
    seconds(6, 0.15),
)
CASES.add(
    "MP3 with a cover before it",
    lambda: media.id3(100_000) + media.mp3(media.hiss(3, 48_000), 48_000),
    load_audio,
    seconds(3, 0.1),
)
CASES.add(
    "MP3 with two tags before it",
    lambda: media.id3(3_000) + media.id3(3_000) + media.mp3(media.hiss(3, 48_000), 48_000),
    load_audio,
    seconds(3, 0.1),
)
CASES.add(
    "MP3 with an APE tag behind it",
    lambda: media.mp3(media.hiss(3, 48_000), 48_000) + media.ape(50_000),
    load_audio,
    seconds(3, 0.1),
)
CASES.add(
    "MP3 with an ID3v1 tag behind it",
    lambda: media.mp3(media.hiss(3, 48_000), 48_000) + b"TAG" + bytes(125),
    load_audio,
    seconds(3, 0.1),
)
CASES.add(
    "MP3 with zeros before it",
    lambda: bytes(500) + media.mp3(media.hiss(3, 48_000), 48_000),
    load_audio,
    seconds(3, 0.1),
)
for tags in (True, False):
    CASES.add(
        f"two MP3 joined, tags {tags}",
        lambda t=tags: media.mp3(media.tone(3, 48_000), 48_000, t) + media.mp3(media.tone(2, 48_000), 48_000, t),
        load_audio,
        seconds(5, 0.2),
    )
CASES.add(
    "MP3 cut within its last frame",
    lambda: media.mp3(media.hiss(3, 48_000), 48_000)[:-50],
    load_audio,
    Either(seconds(3, 0.15), DAMAGED),
)
CASES.add(
    "FLAC of unknown length",
    lambda: media.flac_of_unknown_length(media.tone(3, 48_000), 48_000),
    load_audio,
    seconds(3, 0.01),
)
CASES.add(
    "FLAC behind an ID3 tag",
    lambda: media.id3(2_000) + media.audio_bytes(media.tone(2), form="FLAC"),
    load_audio,
    Either(seconds(2), DAMAGED),
)
CASES.add(
    "two Ogg files in a chain",
    lambda: media.audio_bytes(media.tone(2), form="OGG") + media.audio_bytes(media.tone(1), form="OGG"),
    load_audio,
    seconds(3, 0.1),
)
CASES.add(
    "two Opus files in a chain",
    lambda: (
        media.audio_bytes(media.tone(2), 48_000, "OGG", "OPUS")
        + media.audio_bytes(media.tone(1), 48_000, "OGG", "OPUS")
    ),
    load_audio,
    seconds((32_000 + 16_000) / 48_000, 0.1),
)
CASES.add(
    "two AAC streams joined",
    lambda: media.audio_track(media.tone(2, 44_100), 44_100, "aac", "adts") * 2,
    load_audio,
    seconds(4, 0.2),
)
for size in (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFE0000, 0xFFFFFFFE):
    CASES.add(
        f"WAV of length {size:#x}",
        lambda s=size: media.wav(media.tone(3), data_size=s, riff_size=s),
        load_audio,
        seconds(3, 0.01),
    )
CASES.add(
    "WAV with an odd chunk before its format",
    lambda: media.wav(media.tone(2), before=b"JUNK\x03\0\0\0abc\0"),
    load_audio,
    seconds(2),
)
CASES.add("WAV whose RIFF size alone is wrong", lambda: media.wav(media.tone(2), riff_size=36), load_audio, seconds(2))
CASES.add(
    "WAV of 24 kHz in 8 channels",
    lambda: media.audio_bytes(np.stack([media.tone(1, 24_000)] * 8, 1), 24_000),
    load_audio,
    seconds(1),
)
CASES.add(
    "floats in a WAV slightly over full scale",
    lambda: media.audio_bytes(media.tone(1, level=1.5), subtype="FLOAT"),
    load_audio,
    seconds(1),
)
CASES.add(
    "floats in a WAV of int16's size",
    lambda: media.audio_bytes(media.tone(1) * 32767, subtype="FLOAT"),
    load_audio,
    Refused("audio_range", "audio_scale", "audio_too_loud", "audio_full_scale", "audio_level", "audio_loud"),
)
for value in (np.nan, np.inf):
    CASES.add(
        f"{value} in a WAV",
        lambda v=value: media.audio_bytes(np.full(16_000, v, np.float32), subtype="FLOAT"),
        load_audio,
        Refused("audio_not_finite"),
    )
CASES.add(
    "1e19 in a WAV",
    lambda: media.audio_bytes(np.full(16_000, 1e19, np.float64), subtype="DOUBLE"),
    lambda data: demo().encode(omni.Audio(data)),
    Refused("audio_*"),
)
CASES.add("audio of a video", lambda: media.clip(20, audio=True), load_audio, seconds(2, 0.1))
CASES.add("a video without audio", lambda: media.clip(), load_audio, Refused("audio_no_track"))
CASES.add("a picture in audio's place", lambda: media.image_bytes(), load_audio, Refused("audio_*"))
CASES.add(
    "a demo's transcript is refused",
    lambda: media.audio_bytes(media.tone(1)),
    lambda data: demo().transcribe(data),
    Refused("not_a_recogniser"),
)

# --- damage -----------------------------------------------------------------------------------------------------------
for form in ("WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "W64", "RF64"):
    for share in (0.01, 0.5, 0.9):
        CASES.add(
            f"{form} cut at {share}",
            lambda f=form, s=share: media.cut(media.audio_bytes(media.hiss(3), form=f), s),
            load_audio,
            DAMAGED,
        )
    CASES.add(
        f"{form} cut within its header",
        lambda f=form: media.audio_bytes(media.hiss(1), form=f)[:20],
        load_audio,
        DAMAGED,
    )
for form in ("FLAC", "OGG"):
    CASES.add(
        f"{form} with a hole of zeros",
        lambda f=form: media.zeroed(media.audio_bytes(media.hiss(3), form=f)),
        load_audio,
        DAMAGED,
    )
    CASES.add(
        f"{form} with damage in its data",
        lambda f=form: media.damaged(media.audio_bytes(media.hiss(3), form=f), length=900),
        load_audio,
        Either(Value(), DAMAGED),
    )
for container, codec in (("mp4", "aac"), ("matroska", "aac"), ("flv", "aac"), ("asf", "wmav2"), ("caf", "alac")):
    CASES.add(
        f"{container} cut at 0.6",
        lambda c=container, k=codec: media.cut(
            media.audio_track(media.hiss(3, 44_100), 44_100, k, c, 64_000 if k == "wmav2" else None), 0.6
        ),
        load_audio,
        DAMAGED,
    )
for channels in (0, 1000, 65535):
    CASES.add(
        f"WAV of {channels} channels", lambda c=channels: media.wav(media.tone(1), channels=c), load_audio, DAMAGED
    )
for rate in (0, 1, 999, 10**6, 2**32 - 1):
    CASES.add(f"WAV of {rate} Hz", lambda r=rate: media.wav(media.tone(1), rate=r), load_audio, DAMAGED)
for bits in (0, 7, 48, 255):
    CASES.add(
        f"WAV of {bits} bits", lambda b=bits: media.wav(media.tone(1), bits=b), load_audio, Either(Value(), DAMAGED)
    )
CASES.add("WAV of a codec that does not exist", lambda: media.wav(media.tone(1), code=0x4242), load_audio, DAMAGED)
CASES.add("WAV without samples", lambda: media.wav(b""), load_audio, Refused("audio_empty"))
CASES.add("FLAC that promises 2^36 samples", lambda: endless_flac(), load_audio, DAMAGED)
CASES.add(
    "AIFF of 2^31 frames",
    lambda: media.audio_bytes(media.tone(1), form="AIFF").replace(
        b"COMM\0\0\0\x12\0\x01" + struct.pack(">I", 16_000), b"COMM\0\0\0\x12\0\x01\x7f\xff\xff\xff"
    ),
    load_audio,
    DAMAGED,
)
CASES.add("an MP3's tag alone", lambda: media.id3(2_000), load_audio, DAMAGED)
CASES.add("sync words without frames", b"\xff\xfb" * 900, load_audio, DAMAGED)
CASES.add("words in audio's place", b"these are no samples " * 30, load_audio, DAMAGED)
CASES.add("zeros in audio's place", bytes(5_000), load_audio, DAMAGED)
CASES.add(
    "a long tone in one call",
    lambda: media.audio_bytes(media.tone(60, 8_000), 8_000),
    AudioProcessor(),
    Value(lambda features: abs(features.mel.shape[1] - 6_000) <= 1),
)
