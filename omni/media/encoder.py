"""Media in, embeddings out: reading on the host overlaps with encoding on the device."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from encoders.buckets import audio_token_count
from encoders.runner import AudioEmbedder, VisionEmbedder
from omni.errors import InputError
from omni.media.cache import MediaCache, SaltedCache, content
from omni.media.embedding import Embedding
from omni.media.types import VIDEO_BUDGET, Audio, Image, Video, as_source, is_samples
from processors import Access, AudioProcessor, ImageProcessor, VideoProcessor, load_audio, sniff
from processors.audio import AudioFeatures
from processors.image import ImageFeatures
from processors.io.access import DEFAULT_ACCESS
from processors.io.sources import describe, held
from processors.video import VideoFeatures

Medium = Image | Audio | Video | Embedding
Features = ImageFeatures | VideoFeatures | AudioFeatures | Embedding


def as_medium(source: Any, access: Access = DEFAULT_ACCESS) -> Medium:
    """Wraps raw media by what they hold; wrapped media and embeddings pass through.

    What is fetched to be told apart is kept, and not fetched again to be read.

    Raises:
        InputError: it is none of the three.
    """
    if isinstance(source, Image | Audio | Video | Embedding):
        return source
    if is_samples(source):
        return Audio(source)
    source = held(as_source(source), access)
    return {"image": Image, "audio": Audio, "video": Video}[sniff(source, access=access)](source)


@dataclass(frozen=True)
class MediaEncoder:
    """The processors and towers of a model, as one function from media to embeddings.

    Attributes:
        image: image processor.
        video: video processor.
        audio: audio processor.
        vision: None when the vision part was not loaded.
        audio_tower: None when the audio part was not loaded.
        parts: those that the model has, loaded or not.
        access: limits and source policy of calls that bring none of their own.
    """

    image: ImageProcessor
    video: VideoProcessor
    audio: AudioProcessor
    vision: VisionEmbedder | None = None
    audio_tower: AudioEmbedder | None = None
    parts: tuple[str, ...] = ("vision", "audio")
    access: Access = DEFAULT_ACCESS

    def with_towers(self, parts: Any) -> "MediaEncoder":
        """The same with the towers of a parameter tree, whose edits it sees."""
        vision, audio = getattr(parts, "vision", None), getattr(parts, "audio", None)
        return replace(
            self,
            vision=None if vision is None else VisionEmbedder(vision),
            audio_tower=None if audio is None else AudioEmbedder(audio),
        )

    @property
    def hearing(self) -> AudioEmbedder | None:
        """The old name of `audio_tower`."""
        warnings.warn("MediaEncoder.hearing is now called audio_tower", DeprecationWarning, stacklevel=2)
        return self.audio_tower

    @property
    def version(self) -> tuple[object, ...]:
        """Unlike itself after each edit of a tower; what was encoded before is then out of date."""
        return tuple(tower.version for tower in (self.vision, self.audio_tower) if tower is not None)

    def read(self, medium: Any, access: Access | None = None) -> Features:
        """The host's half: decodes, resizes, cuts into patches or mel frames. Safe to run in threads.

        Args:
            medium: wrapped or raw.
            access: limits, source policy and deadline of this call.

        Raises:
            InputError: the medium cannot be read. Whatever else a decoder raises becomes one, `media_failed`.
        """
        access = access or self.access
        access.check()
        try:
            features = self._read(as_medium(medium, access), access)
        except InputError:
            raise
        except Exception as error:
            name = describe(getattr(medium, "source", medium))
            message = f"{name} could not be read: its decoder failed with {type(error).__name__}"
            raise InputError("media_failed", message) from error
        self.check_tokens(features, access)
        return features

    def check_tokens(self, features: Features, access: Access) -> None:
        """Raise `too_many_tokens` for a medium that becomes more of them than the limit."""
        tokens, most = self.tokens(features), access.limits.media_tokens
        if tokens > most:
            raise InputError("too_many_tokens", f"a medium becomes {tokens:,} tokens, the limit is {most:,}")

    def tokens(self, features: Features) -> int:
        """Return how many tokens a medium becomes, before it is encoded."""
        match features:
            case Embedding(tokens=tokens, audio=audio):
                return len(tokens) + (0 if audio is None else len(audio.tokens))
            case AudioFeatures(mel):
                assert self.audio_tower is not None
                return audio_token_count(mel.shape[1], self.audio_tower.config)
            case VideoFeatures() | ImageFeatures():
                tokens = int(np.prod(features.grid_thw, axis=1).sum()) // features.config.merge_size**2
                track = features.audio if isinstance(features, VideoFeatures) else None
                if track is None:
                    return tokens
                assert self.audio_tower is not None
                frames = len(track) // self.audio.config.hop_length
                return tokens + audio_token_count(frames, self.audio_tower.config)

    def encode(self, features: Sequence[Features]) -> list[Embedding]:
        """The device's half: one embedding for each, in order.

        Raises:
            InputError: `not_finite`, a tower gave NaN or infinity.
        """
        embeddings = []
        for result in self.try_encode(features):
            if isinstance(result, InputError):
                raise result
            embeddings.append(result)
        return embeddings

    def try_encode(self, features: Sequence[Features]) -> list[Embedding | InputError]:
        """As `encode`, with the error in the place of a medium that the towers cannot encode."""
        results: list[Embedding | InputError | None] = [f if isinstance(f, Embedding) else None for f in features]
        for kind in (ImageFeatures, VideoFeatures):
            # Images and videos differ in patch width, so each kind goes through the tower by itself.
            chosen = [(i, f) for i, f in enumerate(features) if isinstance(f, kind)]
            if chosen:
                for i, embedding in zip([i for i, _ in chosen], self._see([f for _, f in chosen]), strict=True):
                    results[i] = embedding
        alone = [(i, f.mel) for i, f in enumerate(features) if isinstance(f, AudioFeatures)]
        tracks: list[tuple[int, Any]] = []
        for i, f in enumerate(features):
            if isinstance(f, VideoFeatures) and f.audio is not None:
                try:
                    tracks.append((i, self.audio(f.audio).mel))
                except InputError as error:
                    results[i] = error
        for (i, _), audio in zip(alone + tracks, self._hear([mel for _, mel in alone + tracks]), strict=True):
            video = results[i]
            if isinstance(video, Embedding) and isinstance(audio, Embedding):
                results[i] = replace(video, audio=audio)
            elif not isinstance(video, InputError):
                results[i] = audio
        return [result for result in results if result is not None]

    def stream(
        self,
        media: Iterable[Any],
        batch_size: int,
        access: Access | None = None,
        admit: "Admit | None" = None,
        cache: MediaCache | SaltedCache | None = None,
    ) -> Iterator[Embedding]:
        """Encodes any number of media in order, `batch_size` at a time, reading the next batch meanwhile.

        Memory stays flat: two batches of features are alive at most.

        Args:
            media: wrapped or raw.
            batch_size: how many are read and encoded at a time.
            access: limits, source policy and deadline of this call.
            admit: called with the index and the features of each before it is encoded; what it raises ends the stream.
            cache: embeddings of media that were encoded before.

        Raises:
            InputError: a medium cannot be read or encoded.
        """
        for result in self.try_stream(media, batch_size, access, admit, cache):
            if isinstance(result, InputError):
                raise result
            yield result

    def try_stream(
        self,
        media: Iterable[Any],
        batch_size: int,
        access: Access | None = None,
        admit: "Admit | None" = None,
        cache: MediaCache | SaltedCache | None = None,
    ) -> Iterator[Embedding | InputError]:
        """As `stream`, with the error in the place of a medium that cannot be read or encoded."""
        rest = iter(media)
        access = access or self.access
        # Readers are ended with the stream, also by Ctrl-C, and the caller's deadline goes on for others.
        access = replace(access, deadline=access.deadline.child())
        index = 0
        with ThreadPoolExecutor() as pool:
            try:
                ahead = [pool.submit(self._try_read, medium, access) for medium in islice(rest, batch_size)]
                while ahead:
                    results: list[Any] = [future.result() for future in ahead]
                    access.check()
                    for result in results:
                        if admit is not None and not isinstance(result, InputError):
                            admit(index, result)
                        index += 1
                    ahead = [pool.submit(self._try_read, medium, access) for medium in islice(rest, batch_size)]
                    readable = [result for result in results if not isinstance(result, InputError)]
                    encoded = iter(self.try_encode(readable) if cache is None else self._encode_once(readable, cache))
                    for result in results:
                        yield result if isinstance(result, InputError) else next(encoded)
            finally:
                access.deadline.cancel()
                pool.shutdown(wait=False, cancel_futures=True)

    def _encode_once(
        self, features: Sequence[Features], cache: MediaCache | SaltedCache
    ) -> list[Embedding | InputError]:
        """As `try_encode`, each content once, and none that was encoded before."""
        keys = [b"" if isinstance(one, Embedding) else content(one) for one in features]
        known: dict[bytes, Embedding | InputError] = {}
        fresh: dict[bytes, Features] = {}
        for key, one in zip(keys, features, strict=True):
            held = None if isinstance(one, Embedding) else cache.get(key)
            if held is not None:
                known[key] = held
            elif key:
                fresh[key] = one
        for key, result in zip(fresh, self.try_encode(list(fresh.values())), strict=True):
            known[key] = result
            if isinstance(result, Embedding):
                cache.put(key, result)
        return [one if isinstance(one, Embedding) else known[key] for key, one in zip(keys, features, strict=True)]

    def programs(self) -> int:
        """How many programs the towers have compiled so far."""
        return sum(tower.programs for tower in (self.vision, self.audio_tower) if tower is not None)

    def _try_read(self, medium: Any, access: Access) -> Features | InputError:
        try:
            return self.read(medium, access)
        except InputError as error:
            return error

    def _read(self, medium: Medium, access: Access) -> Features:
        match medium:
            case Image(source, min_pixels, max_pixels):
                self._need(self.vision, "vision")
                return self.image(source, min_pixels=min_pixels, max_pixels=max_pixels, access=access)
            case Video(source, fps, num_frames, audio):
                self._need(self.vision, "vision")
                track = None if isinstance(audio, bool) else audio if isinstance(audio, Audio) else Audio(audio)
                if audio is not False:
                    self._need(self.audio_tower, "audio")
                # Of these, those that are asked for.
                budget = {name: getattr(medium, name) for name in VIDEO_BUDGET}
                budget = {name: value for name, value in budget.items() if value is not None}
                features = self.video(
                    source, fps=fps, num_frames=num_frames, audio=audio is True, access=access, **budget
                )
                return features if track is None else replace(features, audio=self._waveform(track, access))
            case Audio():
                self._need(self.audio_tower, "audio")
                return self.audio(self._waveform(medium, access), self.audio.config.sampling_rate, access=access)
            case Embedding():
                return medium

    def _see(self, features: Sequence[ImageFeatures | VideoFeatures]) -> list[Embedding | InputError]:
        assert self.vision is not None
        pixels = np.concatenate([f.pixels for f in features])
        grids = np.concatenate([f.grid_thw for f in features])
        results = []
        for feature, grid, seen in zip(features, grids, self.vision.encode(pixels, grids), strict=True):
            video = isinstance(feature, VideoFeatures)
            results.append(
                _finite(
                    "video" if video else "image",
                    seen.tokens,
                    seen.deepstack,
                    (int(grid[0]), int(grid[1]), int(grid[2])),
                    feature.seconds_per_grid if video else None,
                    timestamps=feature.grid_timestamps if video else None,
                )
            )
        return results

    def _hear(self, mels: Sequence[np.ndarray]) -> list[Embedding | InputError]:
        if not mels:
            return []
        assert self.audio_tower is not None
        return [_finite("audio", tokens) for tokens in self.audio_tower.encode(list(mels))]

    def _waveform(self, audio: Audio, access: Access) -> np.ndarray:
        return load_audio(audio.source, audio.sampling_rate, self.audio.config.sampling_rate, access=access)

    def _need(self, tower: object, part: str) -> None:
        if part not in self.parts:
            raise InputError("no_media", f"this model has no {part} part")
        if tower is None:
            raise InputError("part_not_loaded", f"this model was loaded without its {part} part")


Admit = Callable[[int, Features], None]


def _finite(kind: Any, tokens: np.ndarray, deepstack: np.ndarray | None = None, *rest: Any, **more: Any) -> Any:
    """An embedding, or in its place the error that it is none: NaN in weights or media ends here."""
    if not np.isfinite(tokens).all() or (deepstack is not None and not np.isfinite(deepstack).all()):
        return InputError("not_finite", f"the encoder gave NaN or infinity for this {kind}: its weights may be damaged")
    return Embedding(kind, tokens, deepstack, *rest, **more)
