"""Mutants of whole inputs: bytes flipped, cut, doubled, moved, spliced, lengths set to what they cannot be."""

import base64
import json
import random
import string
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tests.reliability import media
from tests.reliability.injection import TOKENS

KINDS = ("image", "audio", "video", "data_uri", "safetensors", "message", "template")
SHARES = {
    "image": 6_000,
    "audio": 4_000,
    "video": 3_000,
    "data_uri": 1_500,
    "safetensors": 2_500,
    "message": 2_000,
    "template": 1_000,
}
_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"RIFF",
    b"WEBP",
    b"WAVE",
    b"AVI ",
    b"fLaC",
    b"OggS",
    b"ID3\3",
    b"FORM",
    b"ftypisom",
    b"ftypavif",
    b"moov",
    b"mdat",
    b"trak",
    b"stsz",
    b"\x1aE\xdf\xa3",
    b"FLV\1",
    b"G",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"caff",
    b"IHDR",
    b"IDAT",
    b"fcTL",
    b"acTL",
    b"VP8X",
    b"ANMF",
    b"data",
    b"fmt ",
    b"#EXTM3U\n",
    b"ffconcat version 1.0\n",
    b"v=0\r\n",
    b"%!PS",
)
_NUMBERS = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    32_767,
    32_768,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)


@cache
def seeds(kind: str) -> tuple[bytes, ...]:
    """Whole inputs of a kind, small ones: many are tried in a second."""
    return tuple(_SEEDS[kind]())


def _images() -> list[bytes]:
    small = media.picture(40, 32)
    forms = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
    found = [media.image_bytes(small, form) for form in forms]
    found += [media.image_bytes(small.convert(mode), "PNG") for mode in ("P", "LA", "RGBA", "1")]
    found += [media.image_bytes(small, "TIFF", compression=packing) for packing in ("tiff_lzw", "jpeg", "tiff_deflate")]
    found += [media.animation(form, 3, 24) for form in ("GIF", "PNG", "WEBP")]
    found += [media.image_bytes(small, "JPEG", progressive=True), media.image_bytes(small.convert("CMYK"), "JPEG")]
    found += [media.bmp_with_unused_alpha(16), media.image_bytes(small, "WEBP", lossless=True)]
    return [*found, (media.SAMPLES / "shapes.png").read_bytes()]


def _audio() -> list[bytes]:
    tone = media.hiss(0.4)
    forms = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64", "VOC")
    found = [media.audio_bytes(tone, form=form) for form in forms]
    found += [
        media.audio_bytes(tone, form="WAV", subtype=kind)
        for kind in ("FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "PCM_24")
    ]
    found += [
        media.audio_bytes(media.hiss(0.4, 48_000), 48_000, "OGG", "OPUS"),
        media.mp3(media.hiss(0.5, 44_100), 44_100),
    ]
    for container, codec in (
        ("mp4", "aac"),
        ("adts", "aac"),
        ("matroska", "aac"),
        ("mpegts", "aac"),
        ("flv", "aac"),
        ("wv", "wavpack"),
    ):
        found.append(media.audio_track(media.hiss(0.4, 44_100), 44_100, codec, container))
    return [*found, media.id3(60) + media.mp3(tone, 16_000), media.flac_of_unknown_length(tone, 16_000)]


def _videos() -> list[bytes]:
    forms = (
        ("mp4", "libx264"),
        ("mov", "mjpeg"),
        ("matroska", "libx264"),
        ("webm", "libvpx"),
        ("avi", "mpeg4"),
        ("avi", "mjpeg"),
        ("mpegts", "libx264"),
        ("flv", "flv"),
        ("mpeg", "mpeg2video"),
        ("h264", "libx264"),
        ("asf", "wmv2"),
    )
    found = [media.clip(4, container, codec, side=32) for container, codec in forms]
    found += [media.clip(4, "mp4", audio=True, side=32), media.clip(4, "mpegts", audio=True, side=32)]
    found += [media.animation(form, 3, 24) for form in ("GIF", "PNG", "WEBP")]
    return [*found, (media.SAMPLES / "star.mp4").read_bytes()]


def _uris() -> list[bytes]:
    text = base64.b64encode(media.image_bytes(media.picture(16, 16))).decode()
    forms = (
        "data:image/png;base64,{}",
        " data:image/png; base64,{}",
        "data:;base64,{}",
        "data:image/png,{}",
        "data:audio/wav;base64,{}",
    )
    addresses = [
        "http://127.0.0.1:1/a.png",
        "https://[::1]/a b.png?q=ü#x",
        "file:///etc/hostname",
        "a.png",
        "//host/x",
        "HTTP:a",
    ]
    return [form.format(text).encode() for form in forms] + [address.encode() for address in addresses]


def _safetensors() -> list[bytes]:
    from safetensors.numpy import save

    arrays = {
        "a": np.ones((2, 3), np.float32),
        "b.weight": np.zeros(4, np.float16),
        "c": np.ones((1, 1, 2), np.float32),
    }
    return [save(arrays, metadata={"format": "pt"}), save({"a": arrays["a"]}), save({})]


_TEMPLATES = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>a{% endif %}",
    "{%- set n = namespace(x=0) -%}{% for m in messages %}{% set n.x = n.x + 1 %}{{ loop.index0 }}"
    "{{ m['content'] | trim }}{% endfor %}{{ n.x }}",
    "{% macro r(c) %}{% if c is string %}{{ c }}{% else %}{% for p in c %}{{ p.text }}{% endfor %}{% endif %}"
    "{% endmacro %}{{ r(messages[0].content) }}",
    "{{ messages | tojson(indent=2) }}{{ 'a' * 3 }}{{ range(5) | list | length }}{{ '%5d' % 7 }}"
    "{{ strftime_now('%Y') }}{{ raise_exception('no') }}",
)
_WORDS = (
    "{{",
    "}}",
    "{%",
    "%}",
    "{% for i in range(9999999) %}",
    "{% endfor %}",
    "{% if x %}",
    "{% endif %}",
    "messages",
    " * 99999999",
    " ** 9",
    "| tojson(indent=9999999)",
    "| join('a' * 999)",
    "| center(99999999)",
    "namespace(",
    "[0]",
    ".__class__",
    "| attr('__mro__')",
    "loop(",
    "{% macro m() %}",
    "{% endmacro %}",
    "{{ m() }}",
    "{% set a = ",
    "'a' * 10 ** 8",
    "range(10 ** 9)",
    "| list",
    "('x' ~ 'y')",
    "1 / 0",
    "{% include 'x' %}",
    "{# ",
    " #}",
    "lipsum(n=9999)",
    "cycler(1)",
    "'%99999999d' % 1",
    "'{:9999999}'.format(1)",
    "(" * 50,
    "[" * 200,
)
_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "image": _images,
    "audio": _audio,
    "video": _videos,
    "data_uri": _uris,
    "safetensors": _safetensors,
    "template": lambda: [text.encode() for text in _TEMPLATES],
    "message": lambda: [b""],
}


def mutant(kind: str, number: int, seed: int = 0) -> Any:
    """The mutant of a kind with this number: the same in every run of one seed."""
    chance = random.Random(f"{seed}/{kind}/{number}")
    if kind == "message":
        return _message(chance)
    pool = seeds(kind)
    data = chance.choice(pool)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        data = _changed(data, pool, chance, kind)
    if kind in ("data_uri", "template"):
        return data.decode("utf-8", "surrogateescape" if chance.random() < 0.2 else "replace")
    return data


def _changed(data: bytes, pool: tuple[bytes, ...], chance: random.Random, kind: str) -> bytes:
    size = max(len(data), 1)
    # Headers decide most: half of all changes are among the first bytes.
    at = chance.randrange(min(size, 256)) if chance.random() < 0.5 else chance.randrange(size)
    if kind == "template" and chance.random() < 0.7:
        word = chance.choice(_WORDS).encode()
        return data[:at] + word + data[at + chance.choice((0, len(word))) :]
    if kind == "safetensors" and chance.random() < 0.5:
        return _header_changed(data, chance)
    match chance.randrange(10):
        case 0:  # bits
            changed = bytearray(data or b"\0")
            for _ in range(chance.choice((1, 2, 8, 40))):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed)
        case 1:  # one byte
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 2:  # the end
            return data[: chance.randrange(size)]
        case 3:  # the beginning
            return data[chance.randrange(size) :]
        case 4:  # a piece twice, or gone
            end = min(size, at + chance.choice((1, 4, 16, 188, 1000)))
            return data[:end] + data[at:] if chance.random() < 0.5 else data[:at] + data[end:]
        case 5:  # the end of another
            other = chance.choice(pool)
            return data[:at] + other[chance.randrange(max(len(other), 1)) :]
        case 6:  # another's name
            word = chance.choice(_MAGIC)
            place = 0 if chance.random() < 0.4 else at
            return data[:place] + word + data[place + len(word) :]
        case 7:  # a length
            number, width = chance.choice(_NUMBERS), chance.choice((1, 2, 4, 8))
            order = chance.choice(("big", "little"))
            return data[:at] + (number % (1 << 8 * width)).to_bytes(width, order) + data[at + width :]
        case 8:  # zeros, or chance
            count = chance.choice((4, 64, 500))
            filling = bytes(count) if chance.random() < 0.5 else chance.randbytes(count)
            return data[:at] + filling + data[at + count :]
        case _:  # two pieces change places
            other, count = chance.randrange(size), chance.choice((4, 16, 64))
            low, high = sorted((at, other))
            return (
                data[:low]
                + data[high : high + count]
                + data[low + count : high]
                + data[low : low + count]
                + data[high + count :]
            )


def _header_changed(data: bytes, chance: random.Random) -> bytes:
    """A safetensors file one field of whose header is another."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        name = chance.choice(sorted(header) or ["a"])
    except (ValueError, TypeError, AttributeError, RecursionError):
        return data
    odd = chance.choice(
        [None, True, -1, 1.5, "x", [], {}, [[]], 2**63, 10**30, float("nan"), [0, 2**62], [2**62, 2**62], [-4, 4]]
    )
    entry = header.get(name)
    if isinstance(entry, dict) and entry and chance.random() < 0.8:
        field = chance.choice(sorted(entry))
        value = entry[field]
        if isinstance(value, list) and value and chance.random() < 0.7:
            place = chance.randrange(len(value))
            odd = [*value[:place], chance.choice([*_NUMBERS, -1, None, "1", 1.0, True]), *value[place + 1 :]]
        header[name] = {**entry, field: odd}
    elif isinstance(header, dict):
        header[chance.choice([name, "", "__metadata__", "x" * 300])] = odd
    text = json.dumps(header).encode()
    if chance.random() < 0.1:
        text = text.replace(b"1", b"9" * chance.choice((20, 5_000)), 1)
    if chance.random() < 0.05:
        text = b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


# --- messages ---------------------------------------------------------------------------------------------------------
def _message(chance: random.Random) -> Any:
    """A conversation by chance, most of it nearly right."""
    messages: Any = [_one(chance) for _ in range(chance.choice((1, 1, 2, 3, 5)))]
    return _odd(chance, 0) if chance.random() < 0.05 else messages


def _one(chance: random.Random) -> Any:
    message: dict[Any, Any] = {"role": chance.choice(["user"] * 6 + ["assistant", "system", "tool", "wizard", None, 5])}
    message["content"] = _text(chance) if chance.random() < 0.4 else [_part(chance) for _ in range(chance.randrange(4))]
    if chance.random() < 0.2:
        message[
            chance.choice(["images", "tools", "name", "tool_calls", "reasoning_content", "x", 5, "content", "system"])
        ] = _odd(chance, 0)
    if chance.random() < 0.05:
        message.pop(chance.choice(list(message)))
    return message


def _part(chance: random.Random) -> Any:
    kind = chance.choice(
        ["text"] * 4 + ["image", "audio", "video", "image_url", "input_audio", "video_url", "audio_url", "smell"]
    )
    values = {
        "text": _text(chance),
        "image": chance.choice([seeds("image")[0], np.zeros((32, 32, 3), np.uint8), "nowhere.png", b""]),
        "audio": seeds("audio")[0],
        "video": np.zeros((2, 32, 32, 3), np.uint8),
        "image_url": {"url": _text(chance)},
        "input_audio": {"data": _text(chance), "format": "wav"},
    }
    part: dict[Any, Any] = {"type": kind, kind: values.get(kind, _odd(chance, 0))}
    if chance.random() < 0.25:
        part[
            chance.choice(
                [
                    "min_pixels",
                    "max_pixels",
                    "fps",
                    "num_frames",
                    "nframes",
                    "sampling_rate",
                    "detail",
                    "type",
                    kind,
                    "audio",
                ]
            )
        ] = chance.choice([*_NUMBERS[:12], -1, 0.5, float("nan"), float("inf"), "x", None, True, [], {}])
    return part if chance.random() < 0.95 else _odd(chance, 0)


def _text(chance: random.Random) -> str:
    pieces = [
        *TOKENS,
        "\ud800",
        "\0",
        "\ue000",
        "{{ x }}",
        "é",
        "\n",
        " ",
        "data:image/png;base64,",
        "AAAA",
        "http://127.0.0.1/",
        "a" * 200,
    ]
    letters = "".join(chance.choices(string.printable, k=chance.randrange(12)))
    return "".join(chance.choices([*pieces, letters, letters, letters], k=chance.randrange(6)))


def _odd(chance: random.Random, depth: int) -> Any:
    """Any value that JSON or Python may hold."""
    simple = [None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "", "x", b"x", object, [], {}, (), set()]
    if depth > 4 or chance.random() < 0.5:
        return chance.choice(simple)
    if chance.random() < 0.1:
        nested: Any = "x"
        for _ in range(chance.choice((50, 500, 3_000))):
            nested = [nested] if chance.random() < 0.5 else {"a": nested}
        return nested
    if chance.random() < 0.5:
        return [_odd(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {
        chance.choice(["type", "text", "role", "content", "a", 5]): _odd(chance, depth + 1)
        for _ in range(chance.randrange(4))
    }
