"""An engine for many callers: one thread, one batch, programs compiled ahead."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Unpack

import numpy as np

from omni.call_options import GenerateOptions
from omni.generation.engine import Engine
from omni.generation.generator import Generator
from omni.generation.ticket import Ticket
from omni.options import Adjustments, GenerationOptions, Sampling
from omni.prompt.inputs import Inputs
from omni.prompt.sequence import Prompt
from processors import Access


class ServingEngine:
    """Answers requests of any number of threads. Made by `Model.serve`; use it in a `with` statement.

    Args:
        generator: with an engine of its own, `Generator.served`.
        request: what a caller gives -> inputs, options and access.
    """

    def __init__(self, generator: Generator, request: Callable[..., tuple[Inputs, GenerationOptions, Access]]):
        self._generator, self._request = generator, request

    def __enter__(self) -> "ServingEngine":
        self._generator.dispatcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm_up(self) -> int:
        """Compile every program that requests can need, before the first comes; return how many there are."""
        return warm_up(self._generator.engine)

    @property
    def generator(self) -> Generator:
        """What writes the replies."""
        return self._generator

    @property
    def waiting(self) -> int:
        """Requests that wait for a row."""
        return self._generator.dispatcher.waiting

    @property
    def running(self) -> int:
        """Requests that have one."""
        return self._generator.dispatcher.running

    def on_step(self, call: Callable[[], None]) -> None:
        """Have something called whenever replies may have grown or ended; it must return at once, and not raise."""
        self._generator.dispatcher.on_step = call

    def submit(
        self,
        messages: Any,
        options: GenerationOptions | None = None,
        *,
        wait: bool = True,
        cache_salt: str = "",
        **given: Unpack[GenerateOptions],
    ) -> Ticket:
        """Queue a conversation; media are read and encoded in the caller's thread.

        Args:
            messages: messages or token ids.
            options: how the reply is written.
            wait: for a place in a full queue; else a full queue refuses.
            cache_salt: media and beginnings of conversations that were read before serve requests of the same salt
                alone, so that other callers cannot tell by the time an answer takes what was asked.
            given: as in `Model.generate`.

        Raises:
            InputError: `queue_full`; `engine_closed`; `cache_full`, the conversation needs more memory than there may
                be; an option, a message or a medium cannot be used.
        """
        inputs, chosen, access = self._request(messages, options, given, cache_salt)
        return self._generator.ticket(inputs, chosen, access.deadline, wait=wait)

    def close(self) -> None:
        """Take no more requests, cancel those that run, and wait until nothing does."""
        self._generator.dispatcher.close()


def warm_up(engine: Engine) -> int:
    """Run every program of an engine's buckets once; return how many there are."""
    counting = Sampling(adjustments=Adjustments(repetition_penalty=2.0))
    row = engine.open(blank_prompt(1), 1, counting)
    assert row is not None
    programs = 1
    for batch, length in engine.buckets.chunks():
        row.length = 0
        engine.read([row], [1], length, batch)
        programs += 1
    for batch in engine.buckets.batches:
        rows = [row] * batch
        logits = engine.step(rows, [0] * batch, [0.0] * batch)
        engine.choose(logits, rows, [Sampling()] * batch, [0] * batch)
        programs += 2
    engine.memory.close(row, hold=False)
    programs += engine.memory.warm_up()
    engine.recover()
    return programs


def blank_prompt(tokens: int) -> Prompt:
    """Return a prompt of so many tokens of id 0, for programs that are run to be compiled."""
    return Prompt(np.zeros(tokens, np.int32), np.zeros((3, tokens), np.float32), float(tokens))
