"""Tasks run to their ends on an engine of their own, where tests ask what a scheduler makes of them."""

from collections.abc import Sequence

import numpy as np

from omni.generation.engine import Engine
from omni.generation.scheduler import Scheduler, Task
from omni.options import Sampling
from omni.prompt.sequence import Prompt

GREEDY = Sampling()


def text(length: int, seed: int = 0) -> Prompt:
    """Tokens by chance."""
    ids = np.random.RandomState(seed).randint(0, 856, length).astype(np.int32)
    return Prompt(ids, np.broadcast_to(np.arange(length, dtype=np.float32), (3, length)), float(length))


def beginning(prompt: Prompt, length: int) -> Prompt:
    """A prompt's first tokens, as an earlier turn would have held them."""
    return Prompt(prompt.token_ids[:length], prompt.position_ids[:, :length], 0.0, prompt.overlays)


def task(prompt: Prompt, steps: int, sampling: Sampling = GREEDY, **more) -> Task:
    """One reply of so many tokens."""
    return Task(prompt, sampling, steps, **more)


def run(engine: Engine, tasks: Sequence[Task], max_batch: int | None = None) -> list[list[int]]:
    """Runs tasks together; their replies."""
    scheduler = Scheduler(engine, max_batch or max(len(tasks), engine.memory.places))
    for one in tasks:
        scheduler.check(one)
        scheduler.add(one)
    while scheduler.step():
        pass
    for one in tasks:
        assert one.done
        if one.error is not None:
            raise one.error
    assert not engine.memory.running
    return [one.reply for one in tasks]


def replies(engine: Engine, prompts: Sequence[Prompt], steps: int, sampling=GREEDY, **more) -> list[list[int]]:
    """Replies to prompts that run together."""
    each = sampling if isinstance(sampling, list) else [sampling] * len(prompts)
    return run(engine, [task(prompt, steps, how, **more) for prompt, how in zip(prompts, each, strict=True)])


def afresh(model, prompt: Prompt, steps: int, ends: frozenset[int] = frozenset()) -> list[int]:
    """The greedy reply to a prompt by an engine that has read nothing."""
    engine = Engine(model.parts.text, model.config.deepstack_levels)
    return run(engine, [task(prompt, steps, ends=ends)])[0]
