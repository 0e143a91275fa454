"""Limits: how much of anything one input may take, checked before memory is taken."""

from dataclasses import dataclass, fields

from processors.errors import InputError

_ENDLESS = 1 << 62


@dataclass(frozen=True)
class Limits:
    """How much one input may take. What is over a limit is refused, never cut.

    A small file may claim far more than memory holds: beyond `free_bytes` of decoded size, a file may decode to so many
    times its own size only (`image_expansion`, `audio_expansion`).

    Attributes:
        source_bytes: encoded bytes held in memory of one source (bytes, URLs, data URIs, streams). Audio and video in
            local files are read as they are decoded, and have no such limit.
        image_bytes: encoded bytes of an image file.
        image_pixels: pixels of a decoded image.
        image_expansion: decoded bytes for each encoded byte of an image, and of one frame for each byte of its video.
        free_bytes: decoded bytes that any file may have, however small it is.
        frame_pixels: pixels of a decoded video frame.
        resized_pixels: pixels of an image, or of one frame, after resizing.
        video_frames: frames in a video file, sampled or not.
        sampled_frames: frames sampled of a video, or handed over as one.
        audio_seconds: length of audio that is held at once; `transcribe` reads any length in parts.
        audio_samples: samples of it, after resampling.
        audio_expansion: decoded bytes, after resampling, for each encoded byte of audio.
        media_tokens: tokens that one image, audio or video may become; in a conversation the model's own length too.
        fetch_bytes: bytes of a fetched body, before and after decompression.
        fetch_seconds: seconds for a whole fetch, redirects included.
        silence_seconds: seconds that a server may stay silent.
        redirects: redirects followed.
        decoder_bytes: memory of a decoding process.
        decoder_seconds: seconds of processor time, and of waiting, for decoding one video in a process.
        template_seconds: seconds for rendering a chat template.
        template_characters: characters that a template may make.

    Raises:
        InputError: `bad_limits`, a limit is not a number above 0.
    """

    source_bytes: int = 1 << 30
    image_bytes: int = 1 << 29
    image_pixels: int = 178_956_970
    image_expansion: int = 500
    free_bytes: int = 1 << 26
    frame_pixels: int = 36_000_000
    resized_pixels: int = 1 << 24
    video_frames: int = 2_000_000
    sampled_frames: int = 4096
    audio_seconds: float = 4 * 3600.0
    audio_samples: int = 4 * 3600 * 16_000
    audio_expansion: int = 5000
    media_tokens: int = 1 << 19
    fetch_bytes: int = 1 << 30
    fetch_seconds: float = 120.0
    silence_seconds: float = 30.0
    redirects: int = 5
    decoder_bytes: int = 1 << 31
    decoder_seconds: float = 600.0
    template_seconds: float = 1.0
    template_characters: int = 1 << 24

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            least = 0 if field.name == "redirects" else 1 if field.type is int else 1e-9
            if not number or not value >= least:
                raise InputError("bad_limits", f"the limit {field.name} must be a number above 0, not {value!r:.40}")
            if field.type is int:
                # Settings may have them as floats, and infinity for none.
                object.__setattr__(self, field.name, int(min(value, _ENDLESS)))


DEFAULT_LIMITS = Limits()
