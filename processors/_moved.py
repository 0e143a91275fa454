"""Modules under the names that they had in 0.1: each imports the module of today, with a DeprecationWarning."""

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "processors.access": "processors.io.access",
    "processors.audio_segments": "processors.decode.audio.segments",
    "processors.av_container": "processors.decode.container.pyav",
    "processors.avi_structure": "processors.decode.container.avi",
    "processors.bounded_json": "processors.io.bounded_json",
    "processors.byte_window": "processors.io.byte_window",
    "processors.checked_stream": "processors.io.checked_stream",
    "processors.container_format": "processors.decode.container.format",
    "processors.container_structure": "processors.decode.container.structure",
    "processors.decode_animation": "processors.decode.image.animation",
    "processors.decode_audio": "processors.decode.audio.decoder",
    "processors.decode_audio_track": "processors.decode.audio.track",
    "processors.decode_image": "processors.decode.image.decoder",
    "processors.decode_soundfile": "processors.decode.audio.libsndfile",
    "processors.decode_video": "processors.decode.video.decoder",
    "processors.decoder_pool": "processors.decode.pool",
    "processors.decoder_process": "processors.decode.process",
    "processors.examine_image": "processors.decode.image.examination",
    "processors.fetch": "processors.io.fetch",
    "processors.flac_frames": "processors.decode.audio.flac_frames",
    "processors.frame_index": "processors.decode.video.frame_index",
    "processors.frame_to_rgb": "processors.decode.video.frame_to_rgb",
    "processors.given_frames": "processors.decode.video.frame_arrays",
    "processors.iff_chunks": "processors.decode.audio.iff_chunks",
    "processors.image_arrays": "processors.decode.image.arrays",
    "processors.image_colours": "processors.decode.image.colours",
    "processors.image_directories": "processors.decode.image.directories",
    "processors.image_formats": "processors.decode.image.formats",
    "processors.image_metadata": "processors.decode.image.metadata",
    "processors.image_structure": "processors.decode.image.structure",
    "processors.jpeg_scan": "processors.decode.image.jpeg_scan",
    "processors.legacy_audio": "processors.decode.audio.legacy_formats",
    "processors.limits": "processors.io.limits",
    "processors.matroska_structure": "processors.decode.container.matroska",
    "processors.mpeg_frames": "processors.decode.audio.mpeg_frames",
    "processors.narrow_samples": "processors.decode.audio.narrow_samples",
    "processors.ogg_pages": "processors.decode.audio.ogg_pages",
    "processors.png_rows": "processors.decode.image.png_rows",
    "processors.policy": "processors.io.policy",
    "processors.quiet": "processors.silence",
    "processors.sampled_frames": "processors.decode.video.sampled_frames",
    "processors.samples": "processors.decode.audio.sample_arrays",
    "processors.sniff_containers": "processors.io.sniff_containers",
    "processors.sniff_streams": "processors.io.sniff_streams",
    "processors.sniffing": "processors.io.sniffing",
    "processors.sources": "processors.io.sources",
    "processors.splice": "processors.io.splice",
    "processors.structure_walk": "processors.decode.container.walk",
    "processors.timeline": "processors.decode.container.timeline",
    "processors.transport_structure": "processors.decode.container.transport_stream",
    "processors.truncation": "processors.io.truncation",
    "processors.wave_chunks": "processors.decode.audio.wave_chunks",
}


class MovedModules(MetaPathFinder, Loader):
    """Stands last among the finders: asked for what no other finds.

    Args:
        moved: old name -> name of today.
    """

    def __init__(self, moved: Mapping[str, str]):
        self._moved = moved

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in self._moved else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        warnings.warn(f"{name} is now called {self._moved[name]}", DeprecationWarning, stacklevel=2)
        sys.modules[name] = importlib.import_module(self._moved[name])


def install() -> None:
    """Let the old names be imported."""
    sys.meta_path.append(MovedModules(MOVED))
