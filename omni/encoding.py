"""Media in, embeddings out: reading on the host overlaps with encoding on the device."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from encoders.embedders import AudioEmbedder, VisionEmbedder
from omni.embedding import Embedding
from omni.errors import InputError
from omni.media import Audio, Image, Video
from processors import AudioProcessor, ImageProcessor, VideoProcessor, load_audio, sniff
from processors.audio import AudioFeatures
from processors.image import ImageFeatures
from processors.video import VideoFeatures

Medium = Image | Audio | Video | Embedding
Features = ImageFeatures | VideoFeatures | AudioFeatures | Embedding


def as_medium(source: Any) -> Medium:
    """Wraps raw media by what they hold; wrapped media and embeddings pass through.

    Raises:
        InputError: it is none of the three.
    """
    if isinstance(source, Image | Audio | Video | Embedding):
        return source
    return {"image": Image, "audio": Audio, "video": Video}[sniff(source)](source)


@dataclass(frozen=True)
class MediaEncoder:
    """The processors and towers of a model, as one function from media to embeddings.

    Attributes:
        image: image processor.
        video: video processor.
        audio: audio processor.
        vision: None when the vision part was not loaded.
        hearing: None when the audio part was not loaded.
        parts: those that the model has, loaded or not.
    """

    image: ImageProcessor
    video: VideoProcessor
    audio: AudioProcessor
    vision: VisionEmbedder | None = None
    hearing: AudioEmbedder | None = None
    parts: tuple[str, ...] = ("vision", "audio")

    def with_towers(self, parts: Any) -> "MediaEncoder":
        """The same with the towers of a parameter tree, as they are now."""
        vision, audio = getattr(parts, "vision", None), getattr(parts, "audio", None)
        return replace(
            self,
            vision=None if vision is None else VisionEmbedder(vision),
            hearing=None if audio is None else AudioEmbedder(audio),
        )

    def read(self, medium: Medium) -> Features:
        """The host's half: decodes, resizes, cuts into patches or mel frames. Safe to run in threads."""
        match medium:
            case Image(source, min_pixels, max_pixels):
                self._need(self.vision, "vision")
                return self.image(source, min_pixels=min_pixels, max_pixels=max_pixels)
            case Video(source, fps, num_frames, audio):
                self._need(self.vision, "vision")
                track = None if isinstance(audio, bool) else audio if isinstance(audio, Audio) else Audio(audio)
                if audio is not False:
                    self._need(self.hearing, "audio")
                features = self.video(source, fps=fps, num_frames=num_frames, audio=audio is True)
                return features if track is None else replace(features, audio=self._waveform(track))
            case Audio():
                self._need(self.hearing, "audio")
                return self.audio(self._waveform(medium), self.audio.config.sampling_rate)
            case Embedding():
                return medium

    def encode(self, features: Sequence[Features]) -> list[Embedding]:
        """The device's half: one embedding for each, in order."""
        found: list[Embedding | None] = [f if isinstance(f, Embedding) else None for f in features]
        for kind in (ImageFeatures, VideoFeatures):
            # Stills and clips differ in patch width, so each kind goes through the tower by itself.
            chosen = [(i, f) for i, f in enumerate(features) if isinstance(f, kind)]
            if chosen:
                for i, embedding in zip([i for i, _ in chosen], self._see([f for _, f in chosen]), strict=True):
                    found[i] = embedding
        heard = [(i, f.mel) for i, f in enumerate(features) if isinstance(f, AudioFeatures)]
        clips = [(i, f.audio) for i, f in enumerate(features) if isinstance(f, VideoFeatures)]
        tracks = [(i, self.audio(track).mel) for i, track in clips if track is not None]
        for (i, _), tokens in zip(heard + tracks, self._hear([mel for _, mel in heard + tracks]), strict=True):
            sound, seen = Embedding("audio", tokens), found[i]
            found[i] = sound if seen is None else replace(seen, audio=sound)
        return [embedding for embedding in found if embedding is not None]

    def stream(self, media: Iterable[Medium], batch_size: int) -> Iterator[Embedding]:
        """Encodes any number of media in order, `batch_size` at a time, reading the next batch meanwhile.

        Memory stays flat: two batches of features are alive at most.

        Raises:
            InputError: a medium cannot be read.
        """
        for result in self.try_stream(media, batch_size):
            if isinstance(result, InputError):
                raise result
            yield result

    def try_stream(self, media: Iterable[Medium], batch_size: int) -> Iterator[Embedding | InputError]:
        """As `stream`, with the error in the place of a medium that cannot be read."""
        rest = iter(media)
        with ThreadPoolExecutor() as pool:
            try:
                ahead = [pool.submit(self._try_read, medium) for medium in islice(rest, batch_size)]
                while ahead:
                    results = [future.result() for future in ahead]
                    ahead = [pool.submit(self._try_read, medium) for medium in islice(rest, batch_size)]
                    encoded = iter(self.encode([r for r in results if not isinstance(r, InputError)]))
                    for result in results:
                        yield result if isinstance(result, InputError) else next(encoded)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def programs(self) -> int:
        """How many programs the towers have compiled so far."""
        return sum(tower.programs for tower in (self.vision, self.hearing) if tower is not None)

    def _try_read(self, medium: Medium) -> Features | InputError:
        try:
            return self.read(medium)
        except InputError as error:
            return error

    def _see(self, features: Sequence[ImageFeatures | VideoFeatures]) -> list[Embedding]:
        assert self.vision is not None
        pixels = np.concatenate([f.pixels for f in features])
        grids = np.concatenate([f.grid_thw for f in features])
        found = []
        for feature, grid, seen in zip(features, grids, self.vision.encode(pixels, grids), strict=True):
            video = isinstance(feature, VideoFeatures)
            found.append(
                Embedding(
                    "video" if video else "image",
                    seen.tokens,
                    seen.deepstack,
                    (int(grid[0]), int(grid[1]), int(grid[2])),
                    feature.seconds_per_grid if video else None,
                    timestamps=feature.grid_timestamps if video else None,
                )
            )
        return found

    def _hear(self, mels: Sequence[np.ndarray]) -> list[np.ndarray]:
        if not mels:
            return []
        assert self.hearing is not None
        return self.hearing.encode(list(mels))

    def _waveform(self, audio: Audio) -> np.ndarray:
        return load_audio(audio.source, audio.sampling_rate, self.audio.config.sampling_rate)

    def _need(self, tower: object, part: str) -> None:
        if part not in self.parts:
            raise InputError("no_media", f"this model has no {part} part")
        if tower is None:
            raise InputError("part_not_loaded", f"this model was loaded without its {part} part")
