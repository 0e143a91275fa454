"""A conversation made ready for the decoder: token ids, positions, and which token receives which medium's row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Int32, Integer

from omni.config import Kind, ModelConfig
from omni.errors import InputError
from omni.media.embedding import Embedding
from omni.media.pictures import NO_PICTURES, Pictures
from omni.prompt.layout import Layout, MediaLayout, Span
from omni.prompt.reply_stream import PLAIN, ReplyFormat
from omni.prompt.sequence import Overlay, Prompt
from processors.notebook import shown, table


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the decoder reads.

    Attributes:
        token_ids: ids, with one placeholder for every row of a medium.
        position_ids: rotary positions in time, height and width.
        next_position: position of the first token after these.
        media: the encoded media, in order of appearance.
        spans: which token indices belong to which medium.
        prompt: the rendered template; None for plain token ids.
        prompt_ids: its tokens, each medium one placeholder.
        cache_salt: what was read of these is used again only for inputs of the same salt.
        reply_format: what a reply may hold beside text.
        pictures: the images among the media, as a reply's coordinates refer to them.
    """

    token_ids: Int32[np.ndarray, "tokens"]
    position_ids: Float[np.ndarray, "3 tokens"]
    next_position: float
    media: tuple[Embedding, ...] = ()
    spans: tuple[Span, ...] = ()
    prompt: str | None = None
    prompt_ids: tuple[int, ...] = ()
    cache_salt: str = ""
    reply_format: ReplyFormat = PLAIN
    pictures: Pictures = NO_PICTURES

    @classmethod
    def from_token_ids(
        cls, token_ids: Sequence[int | np.integer] | Integer[np.ndarray, "_"], vocabulary: int
    ) -> "Inputs":
        """Plain text: positions count up on all three axes.

        Args:
            token_ids: one list of ids.
            vocabulary: how many ids there are.

        Raises:
            InputError: `bad_token_ids`, the list is empty, or not one of whole numbers below `vocabulary`.
        """
        try:
            ids = np.asarray(token_ids)
        except ValueError:  # lists of different lengths within
            ids = np.empty(0)
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
            raise InputError("bad_token_ids", "token ids must be a non-empty flat list of whole numbers")
        check_ids(ids, vocabulary)
        positions = np.broadcast_to(np.arange(len(ids), dtype=np.float32), (3, len(ids)))
        return cls(ids.astype(np.int32), positions, float(len(ids)))

    def __repr__(self) -> str:
        media = [f"{medium.kind} of {len(medium.tokens)}" for medium in self.media[:4]]
        more = [f"{len(self.media) - len(media)} more"] if len(self.media) > len(media) else []
        return f"<omni.Inputs: {', '.join([f'{len(self.token_ids)} tokens', *media, *more])}>"

    @shown
    def _repr_html_(self) -> str:
        media = ", ".join(f"{medium.kind} of {len(medium.tokens)}" for medium in self.media[:20])
        most = self.position_ids.max(axis=1) if len(self.token_ids) else (0, 0, 0)
        facts = {
            "tokens": len(self.token_ids),
            "media": media or None,
            "highest position (time, height, width)": " ".join(f"{value:g}" for value in most),
            "next position": f"{self.next_position:g}",
            "prompt": self.prompt,
        }
        return table("Inputs", facts)

    def to_prompt(self, ends: Collection[int] = ()) -> Prompt:
        """The engine's view: embedding rows laid over placeholders.

        Args:
            ends: tokens that end a message.
        """
        overlays = []
        for span in self.spans:
            medium = self.media[span.media_index]
            # A video's span of kind `audio` is its sound track.
            part = medium.audio if span.kind == "audio" and medium.kind == "video" else medium
            assert part is not None
            overlays.append(Overlay(span.indices, part.tokens, part.deepstack))
        message_ends = np.flatnonzero(np.isin(self.token_ids, list(ends))) + 1
        ends_at = tuple(message_ends.tolist())
        return Prompt(self.token_ids, self.position_ids, self.next_position, tuple(overlays), ends_at, self.cache_salt)

    def followed_by(self, token_ids: Sequence[int]) -> "Inputs":
        """These inputs with tokens after them, as the decoder has read them."""
        steps = np.arange(len(token_ids), dtype=np.float32) + np.float32(self.next_position)
        return replace(
            self,
            token_ids=np.concatenate([self.token_ids, np.asarray(token_ids, np.int32)]),
            position_ids=np.concatenate([self.position_ids, np.broadcast_to(steps, (3, len(steps)))], axis=1),
            next_position=self.next_position + len(token_ids),
            prompt=None,
            prompt_ids=(),
            reply_format=PLAIN,
        )


def from_layout(
    layout: Layout,
    media: Sequence[Embedding],
    prompt: str,
    prompt_ids: Sequence[int],
    vocabulary: int | None = None,
) -> Inputs:
    """Joins the token layout of a rendered conversation with its media.

    Raises:
        InputError: `bad_token_ids`, the tokenizer and the layout know tokens that the decoder does not.
    """
    if vocabulary is not None:
        check_ids(layout.token_ids, vocabulary)
    spans = tuple(layout.spans)
    positions, after = layout.position_ids, layout.next_position
    return Inputs(layout.token_ids, positions, after, tuple(media), spans, prompt, tuple(prompt_ids))


def check_ids(ids: Integer[np.ndarray, "tokens"], vocabulary: int) -> None:
    """Refuses ids that the decoder has no row for, and that it would take for its last: `bad_token_ids`."""
    outside = ids[(ids < 0) | (ids >= vocabulary)]
    if len(outside):
        raise InputError("bad_token_ids", f"token id {outside[0]} is outside 0..{vocabulary - 1}")


def check_kind(kind: Any, config: ModelConfig) -> None:
    """Refuses media of a kind that a model does not read: `no_media`."""
    if config.tokens is None:
        raise InputError("no_media", "this model reads text alone, and the messages hold media")
    if config.tokens.placeholder(kind) is None:
        raise InputError("no_media", f"this model does not read media of kind {kind}")


def check_media(media: Sequence[Embedding], config: ModelConfig) -> None:
    """Refuses embeddings that another kind of model made.

    Raises:
        InputError: `no_media`, for a model that does not read media of that kind; `bad_embedding`, when a width or the
            deepstack does not fit.
    """
    for medium in media:
        for part in (medium, medium.audio):
            if part is not None:
                check_kind(part.kind, config)
    levels = {len(config.vision.deepstack_visual_indexes)} if config.vision is not None else set()
    for medium in media:
        for part in (medium, medium.audio):
            if part is None or config.text is None:
                continue
            if part.tokens.shape[1] != config.text.hidden_size:
                wanted = config.text.hidden_size
                raise InputError(
                    "bad_embedding", f"an embedding is {part.tokens.shape[1]} wide, and this model reads {wanted}"
                )
            if part.deepstack is None and part.kind == "audio":
                continue
            levels.add(0 if part.deepstack is None else len(part.deepstack))
            if len(levels) > 1:
                numbers = " and ".join(map(str, sorted(levels)))
                raise InputError("bad_embedding", f"the deepstack levels of embeddings and model differ: {numbers}")


def placeholders(config: ModelConfig, control_tokens: Mapping[str, int]) -> dict[str, str]:
    """Return the control token that a template writes for a medium of each kind."""
    if config.tokens is None:
        return {}
    texts = {i: text for text, i in control_tokens.items()}
    ids = {kind: config.tokens.placeholder(kind) for kind in get_args(Kind)}
    return {kind: texts[i] for kind, i in ids.items() if i is not None and i in texts}


def media_layout(embedding: Embedding) -> MediaLayout:
    """What the token layout needs to know of an encoded medium."""
    return MediaLayout(
        kind=embedding.kind,
        tokens=len(embedding.tokens),
        grid_thw=embedding.grid_thw,
        seconds_per_grid=embedding.seconds_per_grid,
        audio_tokens=None if embedding.audio is None else len(embedding.audio.tokens),
        timestamps=embedding.timestamps,
    )
