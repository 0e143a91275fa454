"""Vectors of media and texts: one a row, comparable by their inner product."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from omni.bulk.items import Item
from omni.bulk.results import Result
from omni.config import ModelConfig
from omni.errors import CheckpointError, InputError, shown
from omni.media.embedding import Embedding
from omni.runtime import Runtime
from omni.tasks.embed import NOTHING, embed
from processors import Access, AudioFeatures, ImageFeatures, VideoFeatures

POOLINGS = ("mean", "embed")
Features = ImageFeatures | VideoFeatures | AudioFeatures
Content = Features | str | InputError
"""What was read of an item: features of a medium, a text, or why neither could be read."""


def chosen_pooling(pooling: Any, directory: Path) -> str:
    """Return how a checkpoint's vectors are made: `auto` is `embed` for one that was made for embeddings.

    Raises:
        InputError: `bad_option`.
    """
    if pooling in POOLINGS:
        return pooling
    if pooling != "auto":
        raise InputError("bad_option", f"pooling must be auto, mean or embed, not {shown(pooling)}")
    return "embed" if (directory / "modules.json").is_file() or _is_headless(directory) else "mean"


def vector_width(config: ModelConfig) -> int:
    """Return the width of a checkpoint's vectors, which is the decoder's.

    Raises:
        CheckpointError: `part_not_there`, it has no part that gives any.
    """
    if config.text is not None:
        return config.text.hidden_size
    if config.vision is not None:
        return config.vision.out_hidden_size
    if config.audio is not None:
        return config.audio.output_dim
    raise CheckpointError("the checkpoint has neither a vision nor an audio part", code="part_not_there")


class VectorEncoder:
    """Encodes what was read of a batch of items.

    Args:
        model: with the parts that the pooling needs.
        pooling: `mean`, the mean of the tower's tokens; `embed`, the recipe of `model.embed`; None, no vectors. Either
            is scaled to length 1.
        instruction: of `embed`.
        access: limits and source policy.

    Raises:
        InputError: `part_not_loaded`, the recipe needs the decoder.
    """

    def __init__(self, model: Runtime, pooling: str | None, instruction: str | None, access: Access):
        self._model, self._pooling, self._instruction, self._access = model, pooling, instruction, access
        if pooling == "embed":
            _ = model.engine  # which says whether there is a decoder

    @property
    def width(self) -> int:
        """Return the width of the vectors."""
        return vector_width(self._model.config)

    def encode(self, items: Sequence[Item], contents: Sequence[Content]) -> list[Result]:
        """Return the results of a batch, which depend on its items alone."""
        contents = [self._within_limits(content) for content in contents]
        results = [self._result(item, content) for item, content in zip(items, contents, strict=True)]
        media = [i for i, content in enumerate(contents) if isinstance(content, Features)]
        encoded = self._model.media.try_encode([contents[i] for i in media])  # type: ignore[misc]
        for i, one in zip(media, encoded, strict=True):
            if isinstance(one, InputError):
                results[i] = replace(results[i], error=one)
            else:
                results[i] = replace(results[i], embedding=one)
        if self._pooling == "mean":
            return [one if one.embedding is None else replace(one, vector=_mean(one.embedding)) for one in results]
        if self._pooling == "embed":
            return self._embedded(results, contents)
        return results

    def vector(self, query: Features | Embedding | str) -> Float32[np.ndarray, "width"]:
        """Return the vector of one medium or text, made in the same way.

        Raises:
            InputError: `text_not_embedded`, for a text and means of tokens; or it cannot be encoded.
        """
        content: Any = query
        (result,) = self.encode([Item("the query", "medium", ("path", "the query"))], [content])
        if result.error is not None:
            raise result.error
        assert result.vector is not None
        return result.vector

    def _within_limits(self, content: Content) -> Content:
        if isinstance(content, Features):
            try:
                self._model.media.check_tokens(content, self._access)
            except InputError as error:
                return error
        return content

    def _result(self, item: Item, content: Content) -> Result:
        if isinstance(content, InputError):
            return Result(item, error=content)
        if isinstance(content, str):
            wrong = None if self._pooling == "embed" else _no_texts()
            return Result(item, "text", error=wrong)
        if isinstance(content, AudioFeatures):
            config = self._model.media.audio.config
            return Result(item, "audio", seconds=content.mel.shape[1] * config.hop_length / config.sampling_rate)
        if isinstance(content, VideoFeatures):
            return Result(item, "video", seconds=float(content.grid_thw[0, 0]) * content.seconds_per_grid)
        return Result(item, "image")

    def _embedded(self, results: list[Result], contents: Sequence[Content]) -> list[Result]:
        """The recipe of `model.embed`, all together, and one by one where something cannot be embedded."""
        chosen = [i for i, result in enumerate(results) if result.error is None]
        inputs: list[Any] = []
        for i in chosen:
            content = contents[i]
            text = [{"role": "user", "content": content or NOTHING}] if isinstance(content, str) else None
            inputs.append(text or results[i].embedding)
        try:
            found: list[Any] = list(self._vectors(inputs)) if inputs else []
        except InputError:
            found = [self._vector_or_error(one) for one in inputs]
        for i, vector in zip(chosen, found, strict=True):
            failed = isinstance(vector, InputError)
            results[i] = replace(results[i], error=vector) if failed else replace(results[i], vector=vector)
        return results

    def _vectors(self, inputs: list[Any]) -> Float32[np.ndarray, "items width"]:
        return embed(self._model, inputs, self._instruction, len(inputs), self._access)

    def _vector_or_error(self, one: Any) -> Any:
        try:
            return self._vectors([one])[0]
        except InputError as error:
            return error


def _mean(embedding: Embedding) -> Float32[np.ndarray, "width"]:
    vector = embedding.pooled().astype(np.float32)
    return vector / np.maximum(np.linalg.norm(vector), np.float32(1e-12))


def _no_texts() -> InputError:
    return InputError("text_not_embedded", "means of a tower's tokens have no texts beside them: use pooling='embed'")


def _is_headless(directory: Path) -> bool:
    try:
        names = json.loads((directory / "config.json").read_text("utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        return False
    return isinstance(names, list) and bool(names) and not any(re.search("For(?!Embedding)", str(n)) for n in names)
