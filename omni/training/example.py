"""A conversation made ready for training, on the host: tokens, what is to be learned, and media as patches and mel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32

from encoders.buckets import audio_token_count
from omni.config import ModelConfig
from omni.errors import InputError
from omni.media.embedding import Embedding
from omni.media.encoder import Features, MediaEncoder, as_medium
from omni.model import Model
from omni.prompt.completeness import render_whole
from omni.prompt.inputs import check_ids, placeholders
from omni.prompt.layout import MediaLayout, Span
from omni.prompt.messages import parse
from omni.prompt.template import Rendered
from processors.audio import AudioFeatures
from processors.image import ImageFeatures
from processors.video import VideoFeatures

# Added to the ids of what is to be learned while a prompt is laid out: larger than any vocabulary, smaller than int32.
_SAID = 1 << 28


@dataclass(frozen=True, eq=False)
class Example:
    """One conversation.

    Attributes:
        token_ids: ids, with one placeholder for every row of a medium.
        position_ids: rotary positions in time, height and width.
        learned: True for the tokens that the model is to predict.
        media: patches and mel frames in order of appearance, or what the towers made of them.
        tracks: the same of each medium's sound track; None where it has none.
        spans: which token indices belong to which medium.
    """

    token_ids: Int32[np.ndarray, "tokens"]
    position_ids: Float32[np.ndarray, "3 tokens"]
    learned: Bool[np.ndarray, "tokens"]
    media: tuple[ImageFeatures | VideoFeatures | AudioFeatures | Embedding, ...]
    tracks: tuple[AudioFeatures | Embedding | None, ...]
    spans: tuple[Span, ...]

    @property
    def media_bytes(self) -> int:
        """What the media take in memory."""
        return sum(array.nbytes for medium in (*self.media, *self.tracks) if medium for array in _arrays(medium))

    @property
    def is_encoded(self) -> bool:
        """Whether what it holds of media, if it has any, is what the towers made of them."""
        return all(isinstance(medium, Embedding) for medium in self.media)


def encode_media(examples: Sequence[Example], encoder: MediaEncoder) -> list[Example]:
    """The same examples with their media encoded, for towers that training leaves as they are.

    Args:
        examples: with media that were read.
        encoder: of the model.

    Raises:
        InputError: `not_finite`, a tower gave NaN or infinity.
    """
    found = iter(encoder.encode([medium for example in examples for medium in example.media]))
    encoded = []
    for example in examples:
        media = tuple(next(found) for _ in example.media)
        encoded.append(replace(example, media=media, tracks=tuple(embedding.audio for embedding in media)))
    return encoded


def _arrays(medium: Features) -> list[np.ndarray]:
    if isinstance(medium, Embedding):
        return [array for array in (medium.tokens, medium.deepstack) if array is not None]
    return [medium.mel if isinstance(medium, AudioFeatures) else medium.pixels]


def make_example(model: Model, messages: Sequence[Mapping[str, Any]]) -> Example:
    """Makes a conversation ready: what its assistant says, up to the end of each turn, is to be learned.

    An answer's tokens are those of its text alone, as a model that generates it writes them.

    Args:
        model: whose processors, template and tokenizer read it.
        messages: as `Model.generate` takes them, with the assistant's answers.

    Raises:
        InputError: the messages cannot be used; `nothing_to_learn`, when no assistant speaks, or when the template does
            not keep the last answer as it is.
    """
    config = model.config
    if model.tokenizer is None:
        raise InputError("no_tokenizer", "training on conversations needs a tokenizer in the checkpoint directory")
    parsed = parse(messages)
    read = [model.media.read(as_medium(medium)) for medium in parsed.media]
    media = [_only_raw(features) for features in read]
    tracks = [_track(model, features) for features in media]
    rendered, cuts = _render(model, parsed.messages)
    ids: list[int] = []
    for i, piece in enumerate(rendered.cut(cuts)):
        tokens = model.tokenizer.encode_prompt(piece, rendered.mark)
        # Pieces are by turns what is read and what is said; after the token that ends a turn comes the template's own.
        ends = [at for at, token in enumerate(tokens) if token in model.generation.eos_token_ids]
        said = (ends[0] + 1 if ends else len(tokens)) if i % 2 else 0
        ids += [token + _SAID for token in tokens[:said]] + tokens[said:]
    layout = model.prompts.lay_out(
        ids, [_media_layout(f, track, config) for f, track in zip(media, tracks, strict=True)]
    )
    learned = layout.token_ids >= _SAID
    token_ids = np.where(learned, layout.token_ids - _SAID, layout.token_ids)
    if config.text is not None:
        check_ids(token_ids, config.text.vocab_size)
    return Example(
        token_ids,
        layout.position_ids,
        learned,
        tuple(media),
        tuple(tracks),
        layout.spans,
    )


def _render(model: Model, messages: Sequence[Mapping[str, Any]]) -> tuple[Rendered, list[int]]:
    """The whole conversation, and where in its plain text answers begin and end."""
    assert model.tokenizer is not None

    control = model.tokenizer.control_tokens
    media = placeholders(model.config, control)
    whole, form = render_whole(model.template, messages, control, add_generation_prompt=False, placeholders=media)

    def rendered(count: int, prompt: bool) -> Rendered:
        return model.template.render(form[:count], control, add_generation_prompt=prompt)

    cuts: list[int] = []
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    for i in turns:
        before, after = rendered(i, True).plain, rendered(i + 1, False).plain
        # Templates may shorten an answer once another turn follows; what was read then is not what was said.
        kept = whole.plain.startswith(after) and after.startswith(before)
        if kept:
            cuts += [len(before), len(after)]
        elif i == turns[-1]:
            raise InputError("nothing_to_learn", "the chat template does not keep the last answer as it is")
    if not cuts:
        raise InputError("nothing_to_learn", "no message of the conversation is the assistant's")
    return whole, cuts


def _only_raw(features: Features) -> ImageFeatures | VideoFeatures | AudioFeatures:
    if isinstance(features, Embedding):
        raise InputError("bad_part", "training needs media themselves; an embedding has no gradient")
    return features


def _track(model: Model, features: ImageFeatures | VideoFeatures | AudioFeatures) -> AudioFeatures | None:
    if not isinstance(features, VideoFeatures) or features.audio is None:
        return None
    return model.media.audio(features.audio)


def _media_layout(
    features: ImageFeatures | VideoFeatures | AudioFeatures, track: AudioFeatures | None, config: ModelConfig
) -> MediaLayout:
    if isinstance(features, AudioFeatures):
        assert config.audio is not None
        return MediaLayout("audio", audio_token_count(features.mel.shape[1], config.audio))
    assert config.vision is not None
    t, h, w = features.grid_thw[0].tolist()
    tokens = t * h * w // config.vision.merge_unit
    if isinstance(features, ImageFeatures):
        return MediaLayout("image", tokens, (t, h, w))
    heard = None
    if track is not None:
        assert config.audio is not None
        heard = audio_token_count(track.mel.shape[1], config.audio)
    return MediaLayout("video", tokens, (t, h, w), features.seconds_per_grid, heard, features.grid_timestamps)
