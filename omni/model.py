"""A loaded model: embeddings, logits, replies."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
from jaxtyping import Float, Float32

from omni.call_options import ChatOptions, GenerateOptions, PrepareOptions, Reading, TranscribeOptions
from omni.chat import Chat
from omni.checkpoint.save import save
from omni.errors import InputError, check_batch_size
from omni.generation.memory import MemoryBudget
from omni.generation.reply import Reply
from omni.generation.serving import ServingEngine
from omni.generation.ticket import Ticket
from omni.media.embedding import Embedding
from omni.media.types import is_samples
from omni.options import GenerationOptions, one_for_each
from omni.prompt.inputs import Inputs
from omni.prompt.messages import is_single
from omni.prompt.prompt_options import PromptOptions
from omni.runtime import PROMPT_OPTIONS, Conversation, Runtime, TokenIds
from omni.tasks.embed import embed
from omni.tasks.rerank import RankedDocument, check_top_n, ranked, score
from omni.tasks.transcribe import Transcriber, Transcript


class Model(Runtime):
    """A checkpoint, loaded. Made by `omni.load`.

    Attributes:
        name: the name or path it was loaded from.
        config: the parts it has.
        parts: the NNX modules, as `.vision`, `.audio` and `.text`. They may be edited: each call uses the weights that
            they have when it begins, and `save` writes the same.
        tokenizer: None when the directory has none; token ids then stand for text.
    """

    def __repr__(self) -> str:
        parts = [part for part in ("vision", "audio", "text") if getattr(self.config, part) is not None]
        return f"omni.Model({self.name!r}, parts={parts})"

    # --- embeddings ---------------------------------------------------------------------------------------------

    @overload
    def encode(  # pyright: ignore[reportOverlappingOverload]
        self, media: list[Any], *, batch_size: int = ..., **reading: Unpack[Reading]
    ) -> list[Embedding]: ...
    @overload
    def encode(self, media: Any, *, batch_size: int = ..., **reading: Unpack[Reading]) -> Embedding: ...

    def encode(self, media: Any, *, batch_size: int = 8, **reading: Unpack[Reading]) -> Embedding | list[Embedding]:
        """Encodes one medium, or a list of them.

        Args:
            media: path, URL, bytes, data URI, PIL image, array, omni.Image, omni.Audio or omni.Video; or a list.
            batch_size: how many are read and encoded at a time; results do not depend on it.
            reading: `limits` and `sources` in place of those of `omni.load`, and a `deadline` in seconds.

        Returns:
            One embedding for one medium; a list, in order, for a list.

        Raises:
            InputError: a medium cannot be read, or its part was not loaded.
        """
        check_batch_size(batch_size)
        access = self.access(**reading)
        if not isinstance(media, list | tuple) or is_samples(media):
            return self.media.encode([self.media.read(media, access)])[0]
        return list(self.media.stream(media, batch_size, access))

    def embed(
        self, inputs: Any, *, instruction: str | None = None, batch_size: int = 8, **reading: Unpack[Reading]
    ) -> Float32[np.ndarray, "width"] | Float32[np.ndarray, "items width"]:
        """One vector for text, media, or both: the hidden state of the last token after the final norm, of length 1.

        The recipe of Qwen3-VL-Embedding: the instruction is the system message, what is embedded the user's. Other
        models give vectors too, though none that they were trained to give.

        Args:
            inputs: a string, which is text, unless it is the name of a file or a URL: those are refused, as they might
                mean either; a medium as `encode` takes it, files as `pathlib.Path` or `omni.Image`; messages, for text
                and media together, or for any text; token ids or what `prepare` returned, read as they are; or a list
                of such.
            instruction: what the vector is for, "Represent the user's input." when None.
            batch_size: how many are read at a time; results do not depend on it.
            reading: `limits`, `sources`, `deadline`, as in `encode`.

        Returns:
            A vector; for a list, one a row.

        Raises:
            InputError: something cannot be used, an instruction is given twice, or `ambiguous_text`.
        """
        return embed(self, inputs, instruction, batch_size, self.access(**reading))

    def score(
        self,
        query: Any,
        documents: Sequence[Any],
        *,
        instruction: str | None = None,
        batch_size: int = 8,
        **reading: Unpack[Reading],
    ) -> Float32[np.ndarray, "documents"]:
        """How well documents meet a query, from 0 to 1: what a reranker gives "yes" beside "no".

        The recipes of Qwen3-Reranker and Qwen3-VL-Reranker.

        Args:
            query: a text; a medium, files as `pathlib.Path` or `omni.Image`; a dict of `text`, `image`, `video`; or a
                list of a message's parts, for any text and for both.
            documents: a list of such.
            instruction: what makes a document a good one; that of the recipe when None.
            batch_size: how many are read at a time; scores do not depend on it.
            reading: `limits`, `sources`, `deadline`, as in `encode`.

        Raises:
            InputError: `not_a_reranker`; `ambiguous_text`; something cannot be used.
        """
        return score(self, query, documents, instruction, batch_size, self.access(**reading))

    def rerank(
        self, query: Any, documents: Sequence[Any], *, top_n: int | None = None, **options: Any
    ) -> list[RankedDocument]:
        """The documents that meet a query best, in that order; equal ones as they were given.

        Args:
            query: as in `score`.
            documents: as in `score`.
            top_n: most of them; all when None.
            options: the others of `score`.

        Raises:
            InputError: as in `score`; `bad_top_n`.
        """
        check_top_n(top_n)
        return ranked(self.score(query, documents, **options), documents, top_n)

    # --- conversations ------------------------------------------------------------------------------------------

    def prepare(
        self, messages: Conversation, *, add_generation_prompt: bool = True, **given: Unpack[PrepareOptions]
    ) -> Inputs:
        """Makes a conversation ready for the decoder, its media encoded.

        Args:
            messages: `{"role", "content"}` dicts, or plain token ids.
            add_generation_prompt: end with the opening of the assistant's turn.
            given: `tools`, `template_options` and `continue_final_message` as in `generate`; `limits`, `sources`,
                `deadline` as in `encode`.

        Raises:
            InputError: the messages, a medium or an option cannot be used.
        """
        reading: dict[str, Any] = dict(given)
        prompt = PromptOptions.of(**{name: reading.pop(name) for name in PROMPT_OPTIONS if name in reading})
        return self.prepare_all([messages], add_generation_prompt, self.access(**reading), prompt=prompt)[0]

    def logits(self, inputs: Inputs | TokenIds) -> Float[np.ndarray, "tokens vocabulary"]:
        """Next-token scores after every token.

        Args:
            inputs: what `prepare` returned, or plain token ids.
        """
        if not isinstance(inputs, Inputs):
            inputs = self.prompts.from_ids(inputs)
        return self.engine.logits(inputs.to_prompt())

    @overload
    def generate(
        self,
        messages: Conversation,
        options: GenerationOptions | None = ...,
        *,
        batch_size: int = ...,
        **given: Unpack[GenerateOptions],
    ) -> Reply: ...
    @overload
    def generate(
        self,
        messages: Sequence[Conversation],
        options: GenerationOptions | None = ...,
        *,
        batch_size: int = ...,
        **given: Unpack[GenerateOptions],
    ) -> list[Reply]: ...
    @overload
    def generate(
        self,
        messages: Any,
        options: GenerationOptions | None = ...,
        *,
        n: int,
        batch_size: int = ...,
        **given: Unpack[GenerateOptions],
    ) -> Any: ...

    def generate(
        self,
        messages: Any,
        options: GenerationOptions | None = None,
        *,
        n: int | None = None,
        batch_size: int = 8,
        **given: Unpack[GenerateOptions],
    ) -> Any:
        """Answers a conversation, or a list of them.

        Args:
            messages: messages or token ids of one conversation; or a list of such.
            options: how replies are written.
            n: replies to each conversation; goes before that of `options`.
            batch_size: how many replies are written together; they do not depend on it.
            given: fields of `GenerationOptions`, which go before those of `options`; `seed` may be a list with one for
                each conversation. `tools`: functions that the model may call, as OpenAI declares them; calls are in
                `reply.tool_calls`. `tool_choice`: "none", "required" or a dict that names a function, as OpenAI has it;
                `parallel_tool_calls`: False for one call at most where calls are required. `template_options`: what
                the checkpoint's template reads besides, such as `{"enable_thinking": False}`.
                `continue_final_message`: go on with the last message, an assistant's.
                `limits` and `sources` as in `encode`.

        Returns:
            One reply for one conversation; a list, in order, for a list. Where `n` is more than 1, a list of so many in
            the place of each.

        Raises:
            InputError: an option, a message or a medium cannot be used.
        """
        single = is_single(messages)
        conversations = [messages] if single else list(messages)
        check_batch_size(batch_size)
        chosen = self.chosen(options, given if n is None else {**given, "n": n})
        each = one_for_each(chosen.options, chosen.seed, len(conversations))
        inputs = self.prepare_all(conversations, True, chosen.access, prompt=chosen.prompt)
        found = self.generator.run(inputs, each, chosen.access.deadline, batch_size)
        self.warn_if_untrained()
        replies = found if chosen.options.n > 1 else [reply for (reply,) in found]
        return replies[0] if single else replies

    def stream(
        self, messages: Conversation, options: GenerationOptions | None = None, **given: Unpack[GenerateOptions]
    ) -> Iterator[str]:
        """Answers one conversation piece by piece; never half a character.

        Args:
            messages: messages or token ids of one conversation.
            options: how the reply is written.
            given: as in `generate`.

        Raises:
            InputError: as `generate`; `no_tokenizer`, there is nothing to make text with; `bad_n`, more than one reply.
        """
        if self.tokenizer is None:
            raise InputError("no_tokenizer", "streaming gives text, and the checkpoint directory has no tokenizer")
        inputs, chosen, access = self.request(messages, options, given)
        ticket = self.generator.ticket(inputs, chosen, access.deadline)
        return self._pieces(ticket)

    def serve(
        self,
        *,
        max_batch: int = 32,
        max_length: int = 4096,
        max_queue: int | None = None,
        cache_bytes: int | None = None,
    ) -> ServingEngine:
        """An engine that answers requests of many threads together; see `ServingEngine`.

        `with model.serve(max_batch=8) as engine: ticket = engine.submit(messages, max_new_tokens=64)`

        Args:
            max_batch: most requests that run at the same time.
            max_length: tokens of a conversation with its reply that each of them has memory for; longer ones take of
                what others leave.
            max_queue: most requests that wait for their turn; no limit when None.
            cache_bytes: most bytes that conversations may take; as `omni.load` was told when None.
        """
        check_batch_size(max_batch)
        budget = MemoryBudget.of(self._cache_bytes if cache_bytes is None else cache_bytes)
        return ServingEngine(self.generator.served(max_batch, max_length, max_queue, budget), self.request)

    def chat(self, system: str | None = None, **options: Unpack[ChatOptions]) -> Chat:
        """Begins a conversation that remembers.

        Args:
            system: the system message.
            options: defaults for every turn, as in `generate`.
        """
        return Chat(self, system, **options)

    @overload
    def transcribe(  # pyright: ignore[reportOverlappingOverload]
        self, audio: list[Any] | tuple[Any, ...], language: str | None = ..., **options: Unpack[TranscribeOptions]
    ) -> list[Transcript]: ...
    @overload
    def transcribe(
        self, audio: Any, language: str | None = ..., **options: Unpack[TranscribeOptions]
    ) -> Transcript: ...

    def transcribe(
        self,
        audio: Any,
        language: str | None = None,
        *,
        context: str = "",
        stretch_seconds: float | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 8,
        progress: bool | None = None,
        **reading: Unpack[Reading],
    ) -> Transcript | list[Transcript]:
        """Transcribes audio of any length, or a list of it.

        Long audio is cut at pauses, and no sample is left out. It is decoded as it is read, and a batch never holds
        more than one longest stretch, so memory does not grow with the length.

        Args:
            audio: path, URL, bytes, data URI, omni.Audio, or a video for its audio track; or a list.
            language: what is spoken, such as "English" or "en"; found out when None.
            context: names and terms that may occur.
            stretch_seconds: longest stretch that is read at once; what the model is made for when None. Shorter ones
                take less memory.
            max_new_tokens: most tokens a stretch; as many as speech can need when None.
            batch_size: most stretches that are read together; transcripts do not depend on it.
            progress: show a bar; when None, only for long audio on a terminal.
            reading: `limits`, `sources`, `deadline`, as in `encode`; limits on length hold for what is held at once.

        Returns:
            One transcript for one source; a list, in order, for a list.

        Raises:
            InputError: `not_a_recogniser`, for a model that does not write transcripts; `unknown_language`; an option
                or audio cannot be used.
        """
        access = self.access(**reading)
        transcriber = Transcriber(
            self, language, context, stretch_seconds, max_new_tokens, batch_size, progress, access
        )
        single = not isinstance(audio, list | tuple) or is_samples(audio)
        found = []
        for result in transcriber.run([audio] if single else audio):
            if isinstance(result, InputError):
                raise result
            found.append(result)
        return found[0] if single else found

    # --- files ----------------------------------------------------------------------------------------------------

    def save(
        self, directory: str | os.PathLike[str], *, max_shard_size: int | str = "5GB", overwrite: bool = False
    ) -> None:
        """Writes a checkpoint directory that `omni.load` and transformers read.

        Weights go under the names and in the shapes they had in the files, tokenizer, template and settings are copied,
        config.json tells the dtype of the weights. What loading skips is not written: of a Qwen3-Omni that speaks, one
        that only writes text is saved. A directory that did not exist appears all at once; in one that did, config.json
        comes last.

        Args:
            directory: where to; made if absent.
            max_shard_size: most weights in a file: a number of bytes, or such as "5GB" and "512MiB". What fits in one
                file has no index.
            overwrite: replace a checkpoint that is there; other files stay.

        Raises:
            InputError: a part was not loaded, an option cannot be used, or the directory holds a checkpoint already.
            CheckpointError: the directory that the model was loaded from is gone.
        """
        save(self.parts, self._origin, Path(directory).resolve(), max_shard_size=max_shard_size, overwrite=overwrite)

    def refresh(self) -> None:
        """Say that `parts` was trained, so that neither a warning nor a saved config.json calls its weights noise.

        Edits are seen without it. It also makes anew whatever else depends on weights.
        """
        self._media, self._generator = self._media.with_towers(self.parts), None
        self.notice: str | None = None
        self._origin = replace(self._origin, config={k: v for k, v in self._origin.config.items() if k != "omni_demo"})

    def take_over(self) -> None:
        """The old name of `refresh`."""
        warnings.warn("Model.take_over is now called Model.refresh", DeprecationWarning, stacklevel=2)
        self.refresh()

    def _pieces(self, ticket: Ticket) -> Iterator[str]:
        yield from self.generator.pieces(ticket)
        self.warn_if_untrained()
