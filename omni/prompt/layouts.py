"""Layouts of prompts with media, by the name that a `Family` gives as its `layout`."""

from collections.abc import Callable, Mapping, Sequence

from omni.config import ModelConfig, SpecialTokens
from omni.prompt.layout import Layout, MediaLayout, lay_out
from omni.prompt.layout_timestamps import lay_out_stamped

LayOut = Callable[[Sequence[int], Sequence[MediaLayout], ModelConfig, Callable[[str], list[int]]], Layout]
"""The prompt's tokens with one placeholder a medium, the media, the config, and text to token ids."""


def with_positions(
    prompt_ids: Sequence[int], media: Sequence[MediaLayout], config: ModelConfig, _: Callable[[str], list[int]]
) -> Layout:
    """Time as positions, as in Qwen3-Omni."""
    return lay_out(
        prompt_ids, media, config.tokens or SpecialTokens(), config.position_id_per_seconds, _merge_size(config)
    )


def with_timestamps(
    prompt_ids: Sequence[int], media: Sequence[MediaLayout], config: ModelConfig, encode: Callable[[str], list[int]]
) -> Layout:
    """Time in words before each frame, as in Qwen3-VL."""
    return lay_out_stamped(prompt_ids, media, config.tokens or SpecialTokens(), _merge_size(config), encode)


def _merge_size(config: ModelConfig) -> int:
    # Without the vision part, embeddings come from elsewhere; every family merges 2 x 2.
    return config.vision.spatial_merge_size if config.vision else 2


LAYOUTS: Mapping[str, LayOut] = {"positions": with_positions, "timestamps": with_timestamps}
