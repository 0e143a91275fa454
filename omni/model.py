"""A loaded model: embeddings, logits, replies."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from flax import nnx
from jaxtyping import Float, Float32, Integer

from omni.chat import Chat
from omni.config import GenerationConfig, ModelConfig
from omni.decoder.model import TextDecoder
from omni.embedding import Embedding
from omni.encoding import MediaEncoder
from omni.errors import InputError, check_batch_size
from omni.generation.engine import Engine
from omni.generation.run import Options, Row, run, text_stream
from omni.inputs import Inputs
from omni.layout import Layout, MediaLayout
from omni.media import is_samples
from omni.messages import is_single
from omni.prompt_builder import prepare
from omni.reply import Reply, reply
from omni.saving import Origin, save
from omni.spoken import Spoken
from omni.template import ChatTemplate
from omni.tokenizer import Tokenizer
from omni.transcription import Transcriber, Transcript
from omni.vectors import embed
from processors import Access, Deadline, Limits, Sources

Message = Mapping[str, Any]
TokenIds = Sequence[int | np.integer] | Integer[np.ndarray, "_"]
Conversation = Sequence[Message] | TokenIds


class Reading(TypedDict, total=False):
    """What calls that read media take besides their own options.

    Attributes:
        limits: how much each medium may take.
        sources: where media may come from.
        deadline: seconds that the call may take.
    """

    limits: Limits | None
    sources: Sources | None
    deadline: float | None


class GenerateOptions(Reading, total=False):
    """The keyword arguments of `Model.generate`."""

    max_new_tokens: int
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | Sequence[int] | None
    stop: Sequence[str]
    batch_size: int


class TranscribeOptions(Reading, total=False):
    """The keyword arguments of `Model.transcribe`."""

    context: str
    stretch_seconds: float | None
    max_new_tokens: int | None
    batch_size: int
    progress: bool | None


class Model:
    """A checkpoint, loaded. Made by `omni.load`.

    Attributes:
        name: the name or path it was loaded from.
        config: the parts it has.
        parts: the NNX modules, as `.vision`, `.audio` and `.text`. Their parameters may be changed: `save` writes them
            as they are, while `encode` and `generate` go on with those that were loaded until `take_over` is called.
        media: processors and towers.
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
    ):
        self.name, self.config, self.media, self.tokenizer = name, config, media, tokenizer
        self.parts, self.notice = parts, notice
        self._origin = origin
        self.template, self.generation = template, generation
        self._engine = _engine(parts, config)

    def __repr__(self) -> str:
        parts = [part for part in ("vision", "audio", "text") if getattr(self.config, part) is not None]
        return f"omni.Model({self.name!r}, parts={parts})"

    @property
    def engine(self) -> Engine:
        """The decoder's engine.

        Raises:
            InputError: the text part was not loaded.
        """
        if self._engine is None:
            raise InputError("part_not_loaded", "this model was loaded without its text part")
        return self._engine

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
            inputs: a string, which is text; a medium as `encode` takes it, paths as `pathlib.Path` or `omni.Image`;
                messages, for text and media together; token ids or what `prepare` returned, read as they are; or a
                list of such.
            instruction: what the vector is for, "Represent the user's input." when None.
            batch_size: how many are read at a time; results do not depend on it.
            reading: `limits`, `sources`, `deadline`, as in `encode`.

        Returns:
            A vector; for a list, one a row.

        Raises:
            InputError: something cannot be used, or an instruction is given twice.
        """
        return embed(self, inputs, instruction, batch_size, self.access(**reading))

    # --- conversations ------------------------------------------------------------------------------------------

    def prepare(
        self, messages: Conversation, *, add_generation_prompt: bool = True, **reading: Unpack[Reading]
    ) -> Inputs:
        """Makes a conversation ready for the decoder, its media encoded.

        Args:
            messages: `{"role", "content"}` dicts, or plain token ids.
            add_generation_prompt: end with the opening of the assistant's turn.
            reading: `limits`, `sources`, `deadline`, as in `encode`.

        Raises:
            InputError: the messages or a medium cannot be used.
        """
        return self.prepare_all([messages], add_generation_prompt, self.access(**reading))[0]

    def logits(self, inputs: Inputs | TokenIds) -> Float[np.ndarray, "tokens vocabulary"]:
        """Next-token scores after every token.

        Args:
            inputs: what `prepare` returned, or plain token ids.
        """
        if not isinstance(inputs, Inputs):
            inputs = self.from_ids(inputs)
        return self.engine.logits(inputs.to_prompt())

    @overload
    def generate(self, messages: Conversation, **options: Unpack[GenerateOptions]) -> Reply: ...
    @overload
    def generate(self, messages: Sequence[Conversation], **options: Unpack[GenerateOptions]) -> list[Reply]: ...

    def generate(
        self,
        messages: Any,
        *,
        max_new_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int | Sequence[int] | None = None,
        stop: Sequence[str] = (),
        batch_size: int = 8,
        **reading: Unpack[Reading],
    ) -> Reply | list[Reply]:
        """Answers a conversation, or a list of them.

        Args:
            messages: messages or token ids of one conversation; or a list of such.
            max_new_tokens: most tokens a reply.
            temperature: 0 is greedy; the checkpoint's default when None.
            top_p: keep the most likely tokens up to this probability.
            top_k: keep this many most likely tokens; 0 keeps all.
            seed: makes sampling repeatable; one number, or one for each conversation.
            stop: a string, or several, that end a reply; not part of it.
            batch_size: how many conversations are decoded together; replies do not depend on it.
            reading: `limits`, `sources`, `deadline`, as in `encode`.

        Returns:
            One reply for one conversation; a list, in order, for a list.

        Raises:
            InputError: an option, a message or a medium cannot be used.
        """
        single = is_single(messages)
        conversations = [messages] if single else list(messages)
        check_batch_size(batch_size)
        access = self.access(**reading)
        chosen = (max_new_tokens, temperature, top_p, top_k, seed, stop)
        options = self.options(len(conversations), *chosen, deadline=access.deadline)
        inputs = self.prepare_all(conversations, True, access)
        replies: list[Reply] = []
        for start in range(0, len(inputs), batch_size):
            seeds = options.seeds[start : start + batch_size]
            replies += self.answer(inputs[start : start + batch_size], replace(options, seeds=seeds))
        self.warn_if_untrained()
        return replies[0] if single else replies

    def stream(
        self,
        messages: Conversation,
        *,
        max_new_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        **reading: Unpack[Reading],
    ) -> Iterator[str]:
        """Answers one conversation piece by piece; never half a character. Options are those of `generate`."""
        access = self.access(**reading)
        chosen = (max_new_tokens, temperature, top_p, top_k, seed, stop)
        options = self.options(1, *chosen, deadline=access.deadline)
        inputs = self.prepare_all([messages], True, access)[0]
        row = Row(text_stream(self.tokenizer, options.stop))
        if row.text is None:
            raise InputError("no_tokenizer", "streaming gives text, and the checkpoint directory has no tokenizer")
        return self._pieces(inputs, row, options)

    def chat(self, system: str | None = None, **options: Any) -> Chat:
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
        """Writes down what is said in a recording of any length, or in a list of them.

        Long recordings are cut at quiet places, and no sample is left out. They are decoded as they are read, and a
        batch never holds more sound than one longest stretch, so memory does not grow with their length.

        Args:
            audio: path, URL, bytes, data URI, omni.Audio, or a video for its sound track; or a list.
            language: what is spoken, such as "English" or "en"; found out when None.
            context: names and terms that may occur.
            stretch_seconds: longest stretch that is read at once; what the model is made for when None. Shorter ones
                take less memory.
            max_new_tokens: most tokens a stretch; as many as speech can need when None.
            batch_size: most stretches that are read together; transcripts do not depend on it.
            progress: show a bar; when None, only for long recordings on a terminal.
            reading: `limits`, `sources`, `deadline`, as in `encode`; limits on length hold for what is held at once.

        Returns:
            One transcript for one recording; a list, in order, for a list.

        Raises:
            InputError: `not_a_recogniser`, for a model that does not write transcripts; `unknown_language`; an option
                or a recording cannot be used.
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

    def take_over(self) -> None:
        """After training: `encode` and `generate` go on with the weights that `parts` has now, which are no noise."""
        self.media, self.notice = self.media.with_towers(self.parts), None
        self._engine = _engine(self.parts, self.config)
        self._origin = replace(self._origin, config={k: v for k, v in self._origin.config.items() if k != "omni_demo"})

    # --- parts that chat and the command line share ---------------------------------------------------------------

    def access(
        self, limits: Limits | None = None, sources: Sources | None = None, deadline: float | None = None
    ) -> Access:
        """What one call may read: its own limits, policy and deadline, and else those of `omni.load`."""
        return self.media.access.of_call(limits, sources, deadline)

    def options(self, conversations: int, *chosen: Any, deadline: Deadline | None = None) -> Options:
        """What a caller chose, and else the checkpoint's defaults; `chosen` as in `Options.fill`."""
        return Options.fill(self.generation, conversations, *chosen, deadline=deadline or Deadline())

    def answer(self, inputs: Sequence[Inputs], options: Options) -> list[Reply]:
        """Answers prepared conversations together; `options` has a seed for each."""
        rows = [Row(text_stream(self.tokenizer, options.stop)) for _ in inputs]
        session = self.engine.start([one.to_prompt() for one in inputs])
        for _ in run(self.engine, session, rows, options):
            pass
        return [reply(row, len(one.token_ids), 0) for row, one in zip(rows, inputs, strict=True)]

    def warn_if_untrained(self) -> None:
        """Says so after an answer of weights that never learned anything."""
        if self.notice:
            warnings.warn(self.notice, UserWarning, stacklevel=3)

    def _pieces(self, inputs: Inputs, row: Row, options: Options) -> Iterator[str]:
        session = self.engine.start([inputs.to_prompt()])
        for _, piece in run(self.engine, session, [row], options):
            yield piece
        self.warn_if_untrained()

    def prepare_turn(self, messages: Sequence[Message], before: Spoken | None, access: Access | None = None) -> Inputs:
        """As `prepare`, keeping the tokens of what was spoken before."""
        return self.prepare_all([messages], True, access, before)[0]

    def prepare_all(
        self,
        conversations: Sequence[Conversation],
        add_generation_prompt: bool,
        access: Access | None = None,
        before: Spoken | None = None,
    ) -> list[Inputs]:
        """Renders every conversation; encodes all their media together."""
        return prepare(self, conversations, add_generation_prompt, access or self.media.access, before)

    def lay_out(self, prompt_ids: Sequence[int], media: Sequence[MediaLayout]) -> Layout:
        """Expands a prompt's placeholders to the rows of its media, in the way of the model's family."""
        assert self.tokenizer is not None
        return self._origin.family.lay_out(prompt_ids, media, self.config, self.tokenizer.encode)

    def from_ids(self, token_ids: TokenIds) -> Inputs:
        """Token ids as inputs, checked against the vocabulary."""
        if self.config.text is None:
            raise InputError("part_not_loaded", "this model was loaded without its text part")
        return Inputs.from_token_ids(token_ids, self.config.text.vocab_size)


def _engine(parts: Any, config: ModelConfig) -> Engine | None:
    decoder: TextDecoder | None = getattr(parts, "text", None)
    return None if decoder is None else Engine(decoder, config.deepstack_levels)
