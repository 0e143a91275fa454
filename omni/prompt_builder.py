"""Prompts: conversations rendered, counted, and joined with their encoded media."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

from omni.completeness import render_whole
from omni.embedding import Embedding
from omni.encoding import Features
from omni.errors import InputError
from omni.inputs import Inputs, check_kind, check_media, from_layout, media_layout, placeholders
from omni.messages import Parsed, is_token_ids, parse
from omni.spoken import Spoken, encode_after
from omni.template import Rendered
from processors import Access, Limits

if TYPE_CHECKING:
    from omni.model import Model

TokenIds = Sequence[int | np.integer] | Integer[np.ndarray, "_"]


def prepare(
    model: "Model",
    conversations: Sequence[Sequence[Mapping[str, Any]] | TokenIds],
    add_generation_prompt: bool,
    access: Access,
    before: Spoken | None = None,
) -> list[Inputs]:
    """Make conversations ready for the decoder, all their media encoded together.

    Text is read before media, and media are counted before they are encoded: what is too long for the model costs no
    more than reading it.

    Args:
        model: template, tokenizer, towers and layout.
        conversations: messages, or token ids.
        add_generation_prompt: end with the opening of the assistant's turn.
        access: limits, source policy and deadline.
        before: tokens of an earlier turn that are kept.

    Raises:
        InputError: a message or a medium cannot be used, or a conversation is longer than the model reads.
    """
    parsed = [None if is_token_ids(one) else parse(one) for one in conversations]
    for medium in (medium for one in parsed if one is not None for medium in one.media):
        check_kind(medium.kind if isinstance(medium, Embedding) else type(medium).__name__.lower(), model.config)
    prompts = [
        None if one is None else _tokenized(model, one, add_generation_prompt, before, access.limits) for one in parsed
    ]
    lengths = [0 if prompt is None else len(prompt[1]) for prompt in prompts]
    owners = [i for i, one in enumerate(parsed) if one is not None for _ in one.media]
    most = None if model.config.text is None else model.config.text.max_position_embeddings

    def check(length: int) -> None:
        if most is not None and length > most:
            raise InputError(
                "too_many_tokens", f"the conversation is {length} tokens long or more, the model reads {most}"
            )

    def admit(index: int, features: Features) -> None:
        # The placeholder is one of the tokens.
        lengths[owners[index]] += model.media.tokens(features) - 1
        check(lengths[owners[index]])

    access.check()
    for length in lengths:
        check(length)
    media = (medium for one in parsed if one is not None for medium in one.media)
    encoded = iter(list(model.media.stream(media, 8, access, admit)))
    inputs = []
    for conversation, one, prompt in zip(conversations, parsed, prompts, strict=True):
        if one is None or prompt is None:
            inputs.append(model.from_ids(conversation))  # type: ignore[arg-type]
            continue
        rendered, prompt_ids = prompt
        embeddings = [next(encoded) for _ in one.media]
        check_media(embeddings, model.config)
        if model.config.tokens is None:
            inputs.append(replace(model.from_ids(prompt_ids), prompt=rendered.plain, prompt_ids=tuple(prompt_ids)))
            continue
        layout = model.lay_out(prompt_ids, [media_layout(embedding) for embedding in embeddings])
        vocabulary = None if model.config.text is None else model.config.text.vocab_size
        inputs.append(from_layout(layout, embeddings, rendered.plain, prompt_ids, vocabulary))
    return inputs


def _tokenized(
    model: "Model", parsed: Parsed, add_generation_prompt: bool, before: Spoken | None, limits: Limits
) -> tuple[Rendered, list[int]]:
    if model.tokenizer is None:
        raise InputError("no_tokenizer", "the checkpoint directory has no tokenizer; give token ids instead")
    rendered, _ = render_whole(
        model.template,
        parsed.messages,
        model.tokenizer.control_tokens,
        add_generation_prompt=add_generation_prompt,
        placeholders=placeholders(model.config, model.tokenizer.control_tokens),
        limits=limits,
    )
    most = None if model.config.text is None else model.config.text.max_position_embeddings
    return rendered, encode_after(rendered, model.tokenizer, before, most)
