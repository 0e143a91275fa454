"""Replies to prepared conversations, for any number of callers at once."""

from collections.abc import Iterator, Sequence
from itertools import chain

from omni.config import GenerationConfig
from omni.errors import InputError
from omni.generation.buckets import Buckets
from omni.generation.dispatcher import Dispatcher
from omni.generation.engine import Engine
from omni.generation.grammar import Grammars
from omni.generation.memory import MemoryBudget
from omni.generation.reply import Reply
from omni.generation.scheduler import Scheduler, Task
from omni.generation.text_stream import TextStream
from omni.generation.ticket import Ticket
from omni.options import GenerationOptions
from omni.prompt.inputs import Inputs
from omni.prompt.tokenizer import Tokenizer
from omni.response_format import ResponseFormat
from processors import Deadline

_MESSAGE_ENDS = ("<|im_end|>",)


class Generator:
    """Writes replies with one engine.

    Args:
        engine: the device side.
        tokenizer: makes text of tokens; None when there is none.
        defaults: what options that are None stand for.
        max_batch: most rows that run together; as many as callers ask for when None.
        max_queue: most requests that wait for a row; no limit when None.
        grammars: forms of replies; made of the tokenizer when None.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer | None,
        defaults: GenerationConfig,
        *,
        max_batch: int | None = None,
        max_queue: int | None = None,
        grammars: Grammars | None = None,
    ):
        self.engine = engine
        if grammars is None and tokenizer is not None:
            grammars = Grammars(tokenizer, engine.vocabulary)
        self._grammars = grammars
        self._tokenizer, self._defaults, self._fixed = tokenizer, defaults, max_batch is not None
        # Where states of linear layers are worth keeping, whatever ends a reply.
        control = {} if tokenizer is None else tokenizer.control_tokens
        self.message_ends: frozenset[int] = frozenset(defaults.eos_token_ids) | {
            control[t] for t in _MESSAGE_ENDS if t in control
        }
        self.dispatcher: Dispatcher = Dispatcher(Scheduler(engine, max_batch), max_queue)

    def served(self, max_batch: int, max_length: int, max_queue: int | None, budget: MemoryBudget) -> "Generator":
        """The same with an engine of its own, whose programs and memory are known ahead; see `Model.serve`.

        Raises:
            InputError: the decoder writes no text.
        """
        self.engine.check_head()
        engine = Engine(
            self.engine.decoder,
            self.engine.media_levels,
            budget=budget,
            buckets=Buckets.served(max_batch),
            slots=max_length * max_batch,
            places=max_batch,
        )
        # A pool that grew would be another program.
        engine.memory.fix()
        return Generator(
            engine, self._tokenizer, self._defaults, max_batch=max_batch, max_queue=max_queue, grammars=self._grammars
        )

    def ticket(
        self, inputs: Inputs, options: GenerationOptions, deadline: Deadline | None = None, *, wait: bool = True
    ) -> Ticket:
        """Queue one conversation.

        Raises:
            InputError: it cannot be answered; see `Dispatcher.submit`.
        """
        stop = [string for string in options.stop if string]
        if stop and self._tokenizer is None:
            raise InputError("no_tokenizer", "stop strings need a tokenizer, and the checkpoint directory has none")
        ends, wanted = options.ends(self._defaults), ResponseFormat.of(options.response_format)
        if wanted is not None and self._grammars is None:
            raise InputError("no_tokenizer", "response_format needs a tokenizer, and the checkpoint directory has none")
        constraint = None
        if self._grammars is not None:
            constraint = self._grammars.constraint(wanted, ends, inputs.reply_format)
        task = Task(
            inputs.to_prompt(self.message_ends),
            options.sampling(self._defaults),
            options.max_new_tokens,
            ends,
            deadline=deadline or Deadline(options.deadline),
            constraint=constraint,
        )
        text = None
        if self._tokenizer is not None:
            text = TextStream(self._tokenizer, stop, whole_characters=constraint is not None)
        ticket = Ticket(self.dispatcher, task, text, inputs.reply_format, inputs.pictures)
        self.dispatcher.submit(task, wait=wait)
        return ticket

    def run(
        self, inputs: Sequence[Inputs], options: Sequence[GenerationOptions], deadline: Deadline, batch_size: int
    ) -> list[list[Reply]]:
        """Answer conversations, so many replies at a time; one that fails ends them all.

        Returns:
            As many replies to each conversation as its options say.

        Raises:
            InputError: one of them cannot be answered.
        """
        choices = [how.choices() for how in options]
        jobs = sum(map(len, choices))
        if not self._fixed:
            scheduler = self.dispatcher.scheduler
            scheduler.max_batch = max(scheduler.max_batch, min(batch_size, jobs, self.engine.buckets.rows))
        tickets: list[list[Ticket]] = [[] for _ in inputs]
        try:
            # The first reply to each conversation before the others, which then find its prompt read.
            for i in range(max(map(len, choices), default=0)):
                for one, how, begun in zip(inputs, choices, tickets, strict=True):
                    if i < len(how):
                        self._wait(tickets, batch_size, begun)
                        begun.append(self.ticket(one, how[i], deadline))
            return [[ticket.result() for ticket in replies] for replies in tickets]
        finally:
            for ticket in chain.from_iterable(tickets):
                ticket.cancel()

    def _wait(self, tickets: Sequence[Sequence[Ticket]], batch_size: int, begun: Sequence[Ticket]) -> None:
        """Until there is a place for one more reply, and the prompt of an earlier reply to the same has been read."""
        running = [ticket for ticket in chain.from_iterable(tickets) if not ticket.done]
        if len(running) >= batch_size:
            self.dispatcher.run(lambda: any(ticket.done for ticket in running))
        if begun:
            self.dispatcher.run(lambda: begun[0].has_begun)

    @staticmethod
    def pieces(ticket: Ticket) -> Iterator[str]:
        """The pieces of a reply."""
        return iter(ticket)
