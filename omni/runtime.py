"""What every call of a loaded model shares: its parts, how they read media and prompts, and what writes replies."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Integer

from omni.checkpoint.save import Origin
from omni.config import GenerationConfig, ModelConfig
from omni.decoder.model import TextDecoder
from omni.errors import InputError
from omni.generation.engine import Engine
from omni.generation.generator import Generator
from omni.generation.memory import MemoryBudget
from omni.media.cache import MediaCache
from omni.media.encoder import MediaEncoder
from omni.options import GenerationOptions, one_for_each
from omni.prompt.builder import PromptBuilder
from omni.prompt.inputs import Inputs
from omni.prompt.layouts import LAYOUTS
from omni.prompt.prompt_options import PromptOptions
from omni.prompt.template import ChatTemplate
from omni.prompt.token_reuse import ReusableTokens
from omni.prompt.tokenizer import Tokenizer
from processors import Access, Limits, Sources

Message = Mapping[str, Any]
TokenIds = Sequence[int | np.integer] | Integer[np.ndarray, "_"]
Conversation = Sequence[Message] | TokenIds

PROMPT_OPTIONS = frozenset(
    ("tools", "tool_choice", "parallel_tool_calls", "template_options", "continue_final_message")
)
"""Keyword arguments that say how a conversation is rendered."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a caller chose.

    Attributes:
        options: how replies are written.
        prompt: how conversations are rendered.
        access: how media are read.
        seed: one, or one for each conversation.
    """

    options: GenerationOptions
    prompt: PromptOptions
    access: Access
    seed: Any

    def one(self) -> GenerationOptions:
        """The options of what is one reply: `bad_n` where more are asked for."""
        if self.options.n != 1:
            raise InputError("bad_n", f"a stream, a turn and a ticket are one reply each, and n is {self.options.n}")
        return one_for_each(self.options, self.seed, 1)[0]


class Runtime:
    """A loaded checkpoint as chats, tasks and tools use it; `Model` is what users call.

    Attributes:
        name: the name or path it was loaded from.
        config: the parts it has.
        parts: the NNX modules, as `.vision`, `.audio` and `.text`. They may be edited: each call uses the weights that
            they have when it begins, and `save` writes the same.
        tokenizer: None when the directory has none; token ids then stand for text.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        *,
        parts: nnx.Module,
        origin: Origin,
        media: MediaEncoder,
        tokenizer: Tokenizer | None,
        template: ChatTemplate,
        generation: GenerationConfig,
        notice: str | None = None,
        cache_bytes: int | None = None,
        media_cache_bytes: int = 128 << 20,
    ):
        self.name: str = name
        self.config: ModelConfig = config
        self.tokenizer: Tokenizer | None = tokenizer
        self.parts: Any = parts
        self.notice: str | None = notice
        self._origin, self._media = origin, media
        self.template: ChatTemplate = template
        self.generation: GenerationConfig = generation
        self._cache_bytes = cache_bytes
        self._media_cache, self._encoded_with = MediaCache(media_cache_bytes), media.version
        self._generator: Generator | None = None

    @property
    def raw_config(self) -> Mapping[str, Any]:
        """The checkpoint's config.json."""
        return self._origin.config

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that are merged into the weights, as `omni.load` was given them."""
        return tuple(name for name, _ in self._origin.adapters)

    @property
    def engine(self) -> Engine:
        """The decoder's engine.

        Raises:
            InputError: the text part was not loaded.
        """
        return self.generator.engine

    @property
    def generator(self) -> Generator:
        """What writes replies.

        Raises:
            InputError: the text part was not loaded.
        """
        decoder: TextDecoder | None = getattr(self.parts, "text", None)
        if decoder is None:
            raise InputError("part_not_loaded", "this model was loaded without its text part")
        if self._generator is None or self._generator.engine.decoder is not decoder:
            engine = Engine(decoder, self.config.deepstack_levels, budget=MemoryBudget.of(self._cache_bytes))
            self._generator = Generator(engine, self.tokenizer, self.generation)
        return self._generator

    @property
    def media(self) -> MediaEncoder:
        """Processors, and the towers of `parts`."""
        towers = self._media.vision, self._media.audio_tower
        names = ("vision", "audio")
        if any(getattr(self.parts, n, None) is not (t and t.tower) for n, t in zip(names, towers, strict=True)):
            self._media = self._media.with_towers(self.parts)
        return self._media

    @property
    def media_cache(self) -> MediaCache:
        """What the towers, as they are, encoded for conversations before."""
        if (version := self.media.version) != self._encoded_with:
            self._media_cache.clear()
            self._encoded_with = version
        return self._media_cache

    @property
    def prompts(self) -> PromptBuilder:
        """What renders conversations and lays them out, in the way of the model's family."""
        return PromptBuilder(self.config, self.tokenizer, self.template, LAYOUTS[self._origin.family.layout])

    def access(
        self, limits: Limits | None = None, sources: Sources | None = None, deadline: float | None = None
    ) -> Access:
        """What one call may read: its own limits, policy and deadline, and else those of `omni.load`."""
        return self.media.access.of_call(limits, sources, deadline)

    def chosen(self, options: GenerationOptions | None, given: Mapping[str, Any]) -> Chosen:
        """What a caller of `generate` chose."""
        given = dict(given)
        reading = {name: given.pop(name) for name in ("limits", "sources") if name in given}
        prompt = PromptOptions.of(**{name: given.pop(name) for name in PROMPT_OPTIONS if name in given})
        seed = given.pop("seed", None)
        options = GenerationOptions.of(options, given)
        return Chosen(options, prompt, self.access(**reading, deadline=options.deadline), seed)

    def request(
        self, messages: Conversation, options: GenerationOptions | None, given: Mapping[str, Any], salt: str = ""
    ) -> tuple[Inputs, GenerationOptions, Access]:
        """One conversation ready for the decoder, with its options and how its media were read."""
        chosen = self.chosen(options, given)
        one, access = chosen.one(), chosen.access
        return self.prepare_all([messages], True, access, prompt=chosen.prompt, salt=salt)[0], one, access

    def warn_if_untrained(self) -> None:
        """Says so after an answer of weights that never learned anything."""
        if self.notice:
            warnings.warn(self.notice, UserWarning, stacklevel=3)

    def prepare_turn(
        self,
        messages: Sequence[Message],
        before: ReusableTokens | None,
        access: Access | None = None,
        prompt: PromptOptions | None = None,
    ) -> Inputs:
        """As `prepare`, keeping the tokens of what was spoken before."""
        return self.prepare_all([messages], True, access, before, prompt)[0]

    def prepare_all(
        self,
        conversations: Sequence[Conversation],
        add_generation_prompt: bool,
        access: Access | None = None,
        before: ReusableTokens | None = None,
        prompt: PromptOptions | None = None,
        *,
        salt: str = "",
    ) -> list[Inputs]:
        """Renders every conversation; encodes all their media together.

        Caches are shared among calls of the same salt.
        """
        access, prompts = access or self.media.access, self.prompts
        media, cache = self.media, self.media_cache.salted(salt)
        inputs = prompts.prepare(conversations, add_generation_prompt, access, media, cache, before, prompt)
        return [replace(one, cache_salt=salt) for one in inputs] if salt else inputs
