"""Programs compiled ahead: those that a model's next processes then read from disk."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from encoders.runner import AudioEmbedder, VisionEmbedder
from omni.errors import InputError, is_whole, shown
from omni.generation.engine import Engine
from omni.generation.serving import blank_prompt
from omni.model import Model
from omni.options import Sampling

_READ_FROM_DISK = "/jax/compilation_cache/cache_hits"
_events: list[str] = []


@dataclass(frozen=True)
class Compiled:
    """One program, or several that are compiled together.

    Attributes:
        part: "vision", "audio" or "text".
        name: its shape, or what it is for.
        seconds: that it took.
        from_disk: programs that were there already.
        programs: how many it is.
    """

    part: str
    name: str
    seconds: float
    from_disk: int
    programs: int = 1


def warm_up(
    model: Model, *, max_batch: int | None = None, max_length: int = 4096, most_patches: int | None = None
) -> Iterator[Compiled]:
    """Compile what `encode` and the replies of a model need, and keep it where JAX keeps programs.

    The towers' programs are compiled and not run, at most 24 a tower: they serve media of any sizes. Of the decoder
    those are run that read and write one conversation of up to 1,024 tokens; longer ones, and several together, compile
    more when they come.

    Args:
        model: as `omni.load` gives it.
        max_batch: compile what `Model.serve` needs with it, too; nothing for it when None.
        max_length: of `Model.serve`.
        most_patches: of the largest frame; as many as the checkpoint's own settings allow when None.

    Returns:
        Each program, when it is there.

    Raises:
        InputError: `bad_option`; `queue_full`, replies are being written.
    """
    for name, value in (("max_batch", max_batch), ("max_length", max_length), ("most_patches", most_patches)):
        if value is not None and (not is_whole(value) or value < 1):
            raise InputError("bad_option", f"{name} must be a whole number of 1 or more, got {shown(value)}")
    if not _events:
        jax.monitoring.register_event_listener(_note)
        _events.append("")
    return _compiled(model, max_batch, max_length, most_patches)


def _compiled(model: Model, max_batch: int | None, max_length: int, most_patches: int | None) -> Iterator[Compiled]:
    vision, audio, text = model.media.vision, model.media.audio_tower, model.config.text
    if vision is not None:
        size = vision.config.patch_size**2
        yield from _vision(vision, most_patches or max(1, model.media.image.config.max_pixels // size))
    if audio is not None:
        yield from _audio(audio)
    if text is None:
        return
    if not text.output_head:
        yield from _reader(model.engine)
        return
    yield from _writer(model.engine)
    if max_batch is not None:
        engine = model.serve(max_batch=max_batch, max_length=max_length)
        yield _timed("text", f"server, {max_batch} rows of {max_length} tokens", engine.warm_up)
        engine.close()


def _vision(tower: VisionEmbedder, most_patches: int) -> Iterator[Compiled]:
    for rows, length in tower.shapes(most_patches):
        yield _timed("vision", f"{rows} x {length} patches", lambda r=rows, n=length: tower.compile(r, n))


def _audio(tower: AudioEmbedder) -> Iterator[Compiled]:
    for rows, chunks in tower.shapes():
        yield _timed("audio", f"{rows} x {chunks} chunks", lambda r=rows, n=chunks: tower.compile(r, n))


def _writer(engine: Engine) -> Iterator[Compiled]:
    """What one conversation needs: its prompt read in chunks of each length, and a reply written."""
    row = engine.open(blank_prompt(1), 1, Sampling())
    if row is None:
        raise InputError("queue_full", "replies are being written: warm a model up before it is used")
    rows = engine.buckets.batch(1)
    try:
        for length in engine.buckets.lengths:

            def read(length: int = length) -> int:
                row.length = 0
                engine.read([row], [1], length, rows)
                return 1

            yield _timed("text", f"a prompt of {length} tokens", read)

        def write() -> int:
            logits = engine.step([row], [0], [0.0])
            engine.choose(logits, [row], [Sampling()], [0])
            return 2

        yield _timed("text", "a token of a reply", write)
    finally:
        engine.memory.close(row, hold=False)
        engine.recover()


def _reader(engine: Engine) -> Iterator[Compiled]:
    """What a checkpoint for embeddings needs: prompts of each length read."""
    for length in engine.buckets.lengths:
        yield _timed("text", f"a prompt of {length} tokens", lambda n=length: engine.hidden([blank_prompt(n)]))


def _timed(part: str, name: str, make: Callable[[], Any]) -> Compiled:
    before, began = len(_events), time.perf_counter()
    made = make()
    programs = made if isinstance(made, int) else 1
    seconds = time.perf_counter() - began
    return Compiled(part, name, seconds, min(programs, len(_events) - before), programs)


def _note(event: str, **_: Any) -> None:
    if event == _READ_FROM_DISK:
        _events.append(event)
