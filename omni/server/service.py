"""The model behind a server: loaded in a thread of its own, and asked without blocking the event loop."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np

from omni.errors import InputError
from omni.generation.serving import ServingEngine
from omni.generation.ticket import Ticket
from omni.model import Model
from omni.options import GenerationOptions
from omni.prompt.inputs import Inputs
from omni.runtime import Conversation
from omni.server.errors import Refusal
from omni.server.logs import log
from omni.server.settings import ServerSettings
from omni.server.steps import Steps
from omni.tasks.rerank import Part, Reranker

Status = Literal["loading", "compiling", "ready", "draining"]
T = TypeVar("T")

_CLOSING_SECONDS = 10
# Threads that read media and render prompts.
_READERS = 8
# Prompts that are embedded, or scored, together.
_EMBEDDED_TOGETHER = 8


class Service:
    """One model, for all requests.

    Args:
        load: makes the model; called in a thread.
        settings: how many requests there may be, and how much of each.
    """

    def __init__(self, load: Callable[[], Model], settings: ServerSettings):
        self.settings = settings
        self.status: Status = "loading"
        self.failure: BaseException | None = None
        self.created = int(time.time())
        self.steps = Steps()
        self._load = load
        self._model: Model | None = None
        self._engine: ServingEngine | None = None
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="omni-reader")
        self._embedding = threading.Lock()
        self._open = 0

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self, failed: Callable[[], None]) -> None:
        """Load in a thread of its own; call back where that fails, the reason is then in `failure`."""
        self.steps.bind(asyncio.get_running_loop())

        def run() -> None:
            try:
                self._make_ready()
            except BaseException as error:
                self.failure = error
                failed()

        threading.Thread(target=run, name="omni-loader", daemon=True).start()

    def _make_ready(self) -> None:
        began = time.perf_counter()
        model = self._load()
        engine = None
        if model.config.text is not None and model.config.text.output_head:
            engine = model.serve(max_batch=self.settings.max_batch, max_length=self.settings.max_length)
            if self.settings.warm_up:
                self.status = "compiling"
                engine.warm_up()
            engine.on_step(self.steps.notify)
            engine.__enter__()
        self._model, self._engine = model, engine
        if self.status != "draining":
            self.status = "ready"
        log("ready", model=self.name, seconds=round(time.perf_counter() - began, 2))

    def drain(self) -> None:
        """Take no more requests; those that there are go on."""
        if self.status != "draining":
            self.status = "draining"
            log("draining", requests=self._open)

    def close(self) -> None:
        """End everything; a program that is being compiled is not waited for long."""
        if self._engine is not None:
            closer = threading.Thread(target=self._engine.close, daemon=True)
            closer.start()
            closer.join(_CLOSING_SECONDS)
        self._readers.shutdown(wait=False, cancel_futures=True)

    # --- what is asked --------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """The model.

        Raises:
            Refusal: `not_ready`.
        """
        if self._model is None:
            raise Refusal("not_ready", "the model is being loaded; try again soon")
        return self._model

    @property
    def name(self) -> str:
        """What the model is called."""
        if self.settings.name is not None:
            return self.settings.name
        return self.model.name.rstrip("/").rpartition("/")[2] or "model"

    @property
    def waiting(self) -> int:
        """Replies that wait for their turn."""
        return 0 if self._engine is None else self._engine.waiting

    @property
    def running(self) -> int:
        """Replies that are being written."""
        return 0 if self._engine is None else self._engine.running

    def check_model(self, name: str | None) -> None:
        """Refuse requests for another model: `model_not_found`."""
        if name is not None and name not in (self.name, self.model.name):
            raise Refusal("model_not_found", f"there is no model {name[:80]!r} here, but {self.name!r}", "model")

    @contextmanager
    def place(self, replies: int = 1) -> Iterator[None]:
        """A place among the requests that are worked on.

        Raises:
            Refusal: `queue_full`, `draining`, `not_ready`.
        """
        if self.status == "draining":
            raise Refusal("draining", "this server is going down, and takes no more requests")
        if self.status != "ready":
            raise Refusal("not_ready", "the model is being loaded; try again soon")
        most = self.settings.max_batch + self.settings.max_queue
        if self._open + replies > most:
            raise Refusal("queue_full", f"{self._open} requests are being worked on, of {most} at most; try again soon")
        self._open += replies
        try:
            yield
        finally:
            self._open -= replies

    async def call(self, function: Callable[..., T], *args: Any, discard: Callable[[T], None] | None = None) -> T:
        """Run something that blocks in a thread; where nobody waits any more, what it gives is discarded."""
        future: Future[T] = self._readers.submit(function, *args)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if discard is not None:
                future.add_done_callback(lambda done: _discard(done, discard))
            raise

    async def submit(self, messages: Conversation, options: GenerationOptions, salt: str, **given: Any) -> Ticket:
        """Queue a reply; media are read and encoded in a thread.

        Raises:
            InputError: the request cannot be answered.
        """
        engine = self._engine
        if engine is None:
            raise Refusal("no_output_head", "this model makes embeddings, and writes nothing")

        def run() -> Ticket:
            return engine.submit(messages, options, cache_salt=salt, **given)

        return await self.call(run, discard=Ticket.cancel)

    async def prepare(self, conversations: Sequence[Conversation], salt: str, *, opening: bool = True) -> list[Inputs]:
        """Prompts of conversations, their media encoded."""
        access = self.model.access(deadline=self.settings.request_seconds)

        def run() -> list[Inputs]:
            return self.model.prepare_all(conversations, opening, access, salt=salt)

        return await self.call(run)

    async def embed(self, inputs: Sequence[Inputs]) -> np.ndarray:
        """One vector of length 1 for each prompt."""

        def run(batch: Sequence[Inputs]) -> np.ndarray:
            with self._embedding:  # the device does one at a time; and readers' threads share its programs
                return self.model.engine.hidden([one.to_prompt() for one in batch])

        starts = range(0, len(inputs), _EMBEDDED_TOGETHER)
        found = [await self.call(run, inputs[start : start + _EMBEDDED_TOGETHER]) for start in starts]
        vectors = np.concatenate(found)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

    async def score(
        self, pairs: Sequence[tuple[Sequence[Part], Sequence[Part]]], instruction: str | None, salt: str
    ) -> tuple[np.ndarray, int]:
        """One score for each pair of a query and a document, and how many tokens were read.

        Raises:
            InputError: the model is no reranker, or something cannot be read.
        """
        access = self.model.access(deadline=self.settings.request_seconds)
        reranker = Reranker(self.model)

        def run(batch: Sequence[tuple[Sequence[Part], Sequence[Part]]]) -> tuple[np.ndarray, int]:
            inputs = reranker.prepare(batch, instruction, access, salt)
            with self._embedding:
                access.check()
                return reranker.scores(inputs), sum(len(one.token_ids) for one in inputs)

        starts = range(0, len(pairs), _EMBEDDED_TOGETHER)
        found = [await self.call(run, pairs[start : start + _EMBEDDED_TOGETHER]) for start in starts]
        return np.concatenate([scores for scores, _ in found]), sum(tokens for _, tokens in found)

    def transcribe(self, sound: Any, language: str | None, context: str, access: Any) -> Any:
        """What is said in a recording; blocks.

        Raises:
            InputError: the model is no recogniser, or the recording cannot be read.
        """
        from omni.tasks.transcribe import Transcriber

        generator = None if self._engine is None else self._engine.generator
        transcriber = Transcriber(self.model, language, context, None, None, 8, False, access, generator)
        (result,) = transcriber.run([sound])
        if isinstance(result, InputError):
            raise result
        return result


def _discard(done: "Future[T]", discard: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        discard(done.result())
