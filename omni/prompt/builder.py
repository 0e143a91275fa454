"""Prompts: conversations rendered, counted, and joined with their encoded media."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Integer

from omni.config import ModelConfig
from omni.errors import InputError
from omni.media.cache import MediaCache, SaltedCache
from omni.media.embedding import Embedding
from omni.media.encoder import Features, MediaEncoder
from omni.media.pictures import Pictures
from omni.prompt.inputs import Inputs, check_kind, check_media, from_layout, media_layout, placeholders
from omni.prompt.layout import Layout, MediaLayout
from omni.prompt.messages import Parsed, is_token_ids, parse
from omni.prompt.prompt_options import PromptOptions
from omni.prompt.render import render_prompt
from omni.prompt.reply_stream import ReplyFormat
from omni.prompt.template import ChatTemplate, Rendered
from omni.prompt.token_reuse import ReusableTokens, encode_after
from omni.prompt.tokenizer import Tokenizer
from processors import Access, Limits

TokenIds = Sequence[int | np.integer] | Integer[np.ndarray, "_"]


@dataclass(frozen=True)
class PromptBuilder:
    """How a model's conversations become tokens.

    Attributes:
        config: of the model.
        tokenizer: None where the checkpoint has none: token ids are all that can be read then.
        template: of its chats.
        layout: of its family, one of `LAYOUTS`.
    """

    config: ModelConfig
    tokenizer: Tokenizer | None
    template: ChatTemplate
    layout: Callable[..., Layout]

    def prepare(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]] | TokenIds],
        add_generation_prompt: bool,
        access: Access,
        encoder: MediaEncoder,
        cache: MediaCache | SaltedCache,
        before: ReusableTokens | None = None,
        options: PromptOptions | None = None,
    ) -> list[Inputs]:
        """Make conversations ready for the decoder, all their media encoded together.

        Text is read before media, and media are counted before they are encoded: what is too long for the model costs
        no more than reading it.

        Args:
            conversations: messages, or token ids.
            add_generation_prompt: end with the opening of the assistant's turn.
            access: limits, source policy and deadline.
            encoder: of the media.
            cache: of what it encoded before.
            before: tokens of an earlier turn that are kept.
            options: tools, and what else the template reads.

        Raises:
            InputError: a message or a medium cannot be used, or a conversation is longer than the model reads.
        """
        parsed = [None if is_token_ids(one) else parse(one) for one in conversations]
        if options is not None and options.any and None in parsed:
            raise InputError("bad_option", "tools and options of the template are for messages, not for token ids")
        for medium in (medium for one in parsed if one is not None for medium in one.media):
            check_kind(medium.kind if isinstance(medium, Embedding) else type(medium).__name__.lower(), self.config)
        prompts = [
            None if one is None else self._tokenized(one, add_generation_prompt, before, access.limits, options)
            for one in parsed
        ]
        lengths = [0 if prompt is None else len(prompt[1]) for prompt in prompts]
        owners = [i for i, one in enumerate(parsed) if one is not None for _ in one.media]
        most = None if self.config.text is None else self.config.text.max_position_embeddings

        def check(length: int) -> None:
            if most is not None and length > most:
                raise InputError(
                    "too_many_tokens", f"the conversation is {length} tokens long or more, the model reads {most}"
                )

        def admit(index: int, features: Features) -> None:
            # The placeholder is one of the tokens.
            lengths[owners[index]] += encoder.tokens(features) - 1
            check(lengths[owners[index]])

        access.check()
        for length in lengths:
            check(length)
        media = (medium for one in parsed if one is not None for medium in one.media)
        encoded = iter(list(encoder.stream(media, 8, access, admit, cache)))
        inputs = []
        for conversation, one, prompt in zip(conversations, parsed, prompts, strict=True):
            if one is None or prompt is None:
                inputs.append(self.from_ids(conversation))  # type: ignore[arg-type]
                continue
            rendered, prompt_ids, reply_format = prompt
            embeddings = [next(encoded) for _ in one.media]
            check_media(embeddings, self.config)
            if self.config.tokens is None:
                ready = replace(self.from_ids(prompt_ids), prompt=rendered.plain, prompt_ids=tuple(prompt_ids))
                inputs.append(replace(ready, reply_format=reply_format))
                continue
            layout = self.lay_out(prompt_ids, [media_layout(embedding) for embedding in embeddings])
            vocabulary = None if self.config.text is None else self.config.text.vocab_size
            ready = from_layout(layout, embeddings, rendered.plain, prompt_ids, vocabulary)
            pictures = Pictures.of(embeddings, encoder.image.config, access.of_call())
            inputs.append(replace(ready, reply_format=reply_format, pictures=pictures))
        return inputs

    def lay_out(self, prompt_ids: Sequence[int], media: Sequence[MediaLayout]) -> Layout:
        """Expands a prompt's placeholders to the rows of its media."""
        assert self.tokenizer is not None
        return self.layout(prompt_ids, media, self.config, self.tokenizer.encode)

    def from_ids(self, token_ids: TokenIds) -> Inputs:
        """Token ids as inputs, checked against the vocabulary."""
        if self.config.text is None:
            raise InputError("part_not_loaded", "this model was loaded without its text part")
        return Inputs.from_token_ids(token_ids, self.config.text.vocab_size)

    def _tokenized(
        self,
        parsed: Parsed,
        add_generation_prompt: bool,
        before: ReusableTokens | None,
        limits: Limits,
        options: PromptOptions | None,
    ) -> tuple[Rendered, list[int], ReplyFormat]:
        if self.tokenizer is None:
            raise InputError("no_tokenizer", "the checkpoint directory has no tokenizer; give token ids instead")
        rendered, reply_format = render_prompt(
            self.template,
            parsed.messages,
            self.tokenizer.control_tokens,
            add_generation_prompt=add_generation_prompt,
            placeholders=placeholders(self.config, self.tokenizer.control_tokens),
            limits=limits,
            options=options,
        )
        most = None if self.config.text is None else self.config.text.max_position_embeddings
        return rendered, encode_after(rendered, self.tokenizer, before, most), reply_format
