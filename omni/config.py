"""What a checkpoint directory says about its model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.config import AudioConfig, VisionConfig
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError
from omni.layout import SpecialTokens

__all__ = ["GenerationConfig", "ModelConfig", "SpecialTokens", "TranscriptForm", "read_json"]


@dataclass(frozen=True)
class TranscriptForm:
    """How a speech recogniser writes what it hears.

    Attributes:
        opening: how a reply begins that is to be in `{language}`; the transcript follows.
        marker: what stands between the language and the transcript in a reply.
        languages: the model's names of languages, by what users may call them, in lower case.
        longest: seconds of sound that the model is made to read at once.
    """

    opening: str
    marker: str
    languages: Mapping[str, str]
    longest: int


@dataclass(frozen=True)
class ModelConfig:
    """The parts of a model, each with its own config.

    Attributes:
        vision: the vision tower; None when not loaded.
        audio: the audio tower; None when not loaded.
        text: the text decoder; None when not loaded.
        tokens: ids of the placeholder and boundary tokens; None for text alone.
        position_id_per_seconds: steps of the time axis in one second of video or sound.
        dtype: what the files say the weights are, such as "bfloat16".
        transcript: how a speech recogniser writes; None for models that answer freely.
    """

    vision: VisionConfig | None
    audio: AudioConfig | None
    text: TextConfig | None
    tokens: SpecialTokens | None
    position_id_per_seconds: float
    dtype: str | None = None
    transcript: TranscriptForm | None = None

    @property
    def deepstack_levels(self) -> int | None:
        """Levels that its media bring to the decoder's first layers; None for text alone."""
        if self.tokens is None:
            return None
        return 0 if self.vision is None else len(self.vision.deepstack_visual_indexes)


@dataclass(frozen=True)
class GenerationConfig:
    """End tokens and sampling defaults, from generation_config.json.

    Attributes:
        eos_token_ids: tokens that end a reply.
        temperature: 0 is greedy.
        top_p: smallest set of tokens whose probability reaches this; 1 keeps all.
        top_k: most tokens to choose from; 0 keeps all.
    """

    eos_token_ids: tuple[int, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "GenerationConfig":
        """Reads the file's fields; without `do_sample` the default is greedy, as the file's owner would get.

        Raises:
            CheckpointError: a field holds no number.
        """
        given = {name: value for name, value in raw.items() if value is not None}
        eos = given.get("eos_token_id", ())
        try:
            ids = tuple(map(int, (eos,) if isinstance(eos, int) else eos))
            if not given.get("do_sample", False):
                return cls(ids)
            temperature, top_p = float(given.get("temperature", 1.0)), float(given.get("top_p", 1.0))
            return cls(ids, temperature, top_p, int(given.get("top_k", 50)))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"generation_config.json: {error}") from error


def read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; {} when an optional file is absent.

    Raises:
        CheckpointError: a required file is absent, or a file is not a JSON object.
    """
    if not path.is_file():
        if required:
            raise CheckpointError(f"{path.name} is not in the checkpoint directory")
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}, not an object")
    return content
