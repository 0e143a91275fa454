"""What a model makes of a conversation, stage by stage, by the very calls that `encode` and `generate` make."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from omni.errors import InputError
from omni.generation.scheduler import Task
from omni.media.embedding import Embedding
from omni.media.encoder import as_medium
from omni.media.types import Audio
from omni.model import Model
from omni.options import Sampling
from omni.prompt.inputs import Inputs
from omni.prompt.messages import Parsed, is_token_ids, parse
from omni.prompt.sequence import Prompt
from omni.tools.verify.stages import Arrays
from processors import load_audio
from processors.audio import AudioFeatures
from processors.image import ImageFeatures
from processors.video import VideoFeatures

STEPS = 8
# Rows of a prompt whose hidden states are kept, and scores that are kept in full.
_ROWS, _SCORES = 8, 600_000
_SKETCH = 16


def trace(
    model: Model,
    messages: Any,
    *,
    like: Arrays | None = None,
    steps: int = STEPS,
    into: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Goes through all stages, each from what the one before gave.

    Args:
        model: with a text part.
        messages: a conversation, or token ids.
        like: another trace of the same, whose rows are taken where it names them.
        steps: tokens to answer with, greedily and whether or not one of them ends the answer.
        into: filled stage by stage, so that what came before an error can be had; a new one when None.

    Raises:
        InputError: the conversation cannot be used.
    """
    arrays: dict[str, np.ndarray] = {} if into is None else into
    if is_token_ids(messages):
        inputs = model.prepare(messages)
    else:
        parsed = parse(messages)
        embeddings = [_medium(model, medium, i, arrays) for i, medium in enumerate(parsed.media)]
        arrays |= _prompt(model, parsed)
        inputs = model.prepare(_with(parsed, embeddings))
    arrays |= laid_out(inputs)
    _decode(model, inputs, like or {}, steps, arrays)
    return arrays


def laid_out(inputs: Inputs) -> dict[str, np.ndarray]:
    """The prompt of a prepared conversation, its tokens and their positions."""
    arrays = {
        "token_ids": inputs.token_ids,
        "positions": np.asarray(inputs.position_ids, np.float32),
        "positions/next": np.asarray([inputs.next_position], np.float64),
    }
    if inputs.prompt is not None:
        arrays |= {"prompt": text_array(inputs.prompt), "prompt_ids": np.asarray(inputs.prompt_ids, np.int32)}
    return arrays


def choose_rows(tokens: int, vocabulary: int, like: Arrays) -> dict[str, np.ndarray]:
    """Which tokens' hidden states and scores are kept: a few spread over the prompt, and the last."""
    rows = np.unique(np.linspace(0, tokens - 1, _ROWS).round().astype(np.int32))
    scored = rows[-max(1, min(_ROWS, _SCORES // vocabulary)) :]
    chosen = {"hidden/rows": rows, "logits/rows": scored}
    # Another trace may be of another prompt, and then these rows are as good as any.
    usable = {name: like[name] for name in chosen if name in like and like[name].size and like[name].max() < tokens}
    return chosen | usable


def choose_layers(depth: int) -> list[int]:
    """Layers whose hidden states are kept."""
    return sorted({0, depth // 4, depth // 2, 3 * depth // 4, depth - 1})


def sketch(logits: np.ndarray) -> np.ndarray:
    """Scores of every token as a few sums with fixed signs, which keep distances (Johnson and Lindenstrauss, 1984)."""
    signs = np.random.RandomState(0).randint(0, 2, (logits.shape[1], _SKETCH)).astype(np.float32) * 2 - 1
    return logits.astype(np.float32) @ signs / np.float32(np.sqrt(_SKETCH))


def keep_scores(logits: np.ndarray, tokens: int, rows: np.ndarray, greedy: Sequence[int]) -> dict[str, np.ndarray]:
    """What is kept of the scores after every token of a prompt and of its answer.

    Args:
        logits: of the prompt's tokens, and of the answer's but the last.
        tokens: of the prompt.
        rows: whose scores are kept in full.
        greedy: the answer.
    """
    last = logits[tokens - 1 :].astype(np.float64)
    best = np.sort(last, axis=-1)[:, -2:]
    return {
        "logits/rows": rows,
        "logits": np.ascontiguousarray(logits[rows], np.float32),
        "logits/sketch": sketch(logits[:tokens]),
        "greedy": np.asarray(greedy, np.int32),
        "greedy/margins": (best[:, 1] - best[:, 0]).astype(np.float32),
        "greedy/deviations": last.std(axis=-1).astype(np.float32),
    }


def answer(model: Model, prompt: Prompt, steps: int) -> list[int]:
    """Greedy tokens after a prompt, by prefill and cached steps; tokens that end an answer do not end it here."""
    task = Task(prompt, Sampling(), steps)
    model.generator.dispatcher.submit(task)
    model.generator.dispatcher.run(lambda: task.done)
    if task.error is not None:
        raise task.error
    return task.reply


def hidden_states(model: Model, prompt: Prompt, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What the decoder makes of a prompt before its scores."""
    states = model.engine.states(prompt)
    arrays = {"embedded": states.embedded, "hidden/rows": rows}
    for layer in choose_layers(len(states.layers)):
        arrays[f"hidden/{layer:02d}"] = states.layers[layer, rows]
    return arrays | {"hidden/norm": states.normed[rows]}


def _medium(model: Model, medium: Any, index: int, arrays: dict[str, np.ndarray]) -> Embedding:
    """Reads and encodes one medium; what it goes through is put into `arrays`."""
    medium = as_medium(medium, model.media.access)
    features = model.media.read(medium)
    waveform = None
    if isinstance(medium, Audio):
        rate = model.media.audio.config.sampling_rate
        waveform = load_audio(medium.source, medium.sampling_rate, rate, access=model.media.access)
    elif isinstance(features, VideoFeatures):
        waveform = features.audio
    if waveform is not None:
        arrays[f"waveform/{index}"] = waveform
    if isinstance(features, ImageFeatures | VideoFeatures):
        arrays |= {f"pixels/{index}": features.pixels, f"pixels/{index}.grid": features.grid_thw[0]}
    if isinstance(features, VideoFeatures):
        arrays[f"clock/{index}"] = np.asarray([features.seconds_per_grid, *features.grid_timestamps], np.float64)
    if isinstance(features, AudioFeatures):
        arrays[f"mel/{index}"] = features.mel
    elif waveform is not None:
        arrays[f"mel/{index}"] = model.media.audio(waveform, model.media.audio.config.sampling_rate).mel
    (embedding,) = model.media.encode([features])
    arrays |= embedded_media(embedding, index)
    return embedding


def embedded_media(embedding: Embedding, index: int) -> dict[str, np.ndarray]:
    """An embedding as the stages that it stands for."""
    arrays = {f"{'audio' if embedding.kind == 'audio' else 'vision'}/{index}": embedding.tokens}
    if embedding.deepstack is not None:
        arrays[f"deepstack/{index}"] = embedding.deepstack
    if embedding.audio is not None:
        arrays[f"audio/{index}"] = embedding.audio.tokens
    return arrays


def _prompt(model: Model, parsed: Parsed) -> dict[str, np.ndarray]:
    """The prompt with the marks that keep users' text apart, by which it can be encoded again."""
    if model.tokenizer is None:
        raise InputError("no_tokenizer", "the checkpoint directory has no tokenizer; give token ids instead")
    rendered = model.template.render(parsed.messages, model.tokenizer.control_tokens, add_generation_prompt=True)
    return {"prompt/marked": text_array(rendered.text), "prompt/mark": text_array(rendered.mark)}


def _decode(model: Model, inputs: Inputs, like: Arrays, steps: int, arrays: dict[str, np.ndarray]) -> None:
    tokens = len(inputs.token_ids)
    assert model.config.text is not None
    rows = choose_rows(tokens, model.config.text.vocab_size, like)
    arrays |= hidden_states(model, inputs.to_prompt(), rows["hidden/rows"])
    if model.config.text.output_head:
        greedy = answer(model, inputs.to_prompt(), steps)
        logits = np.asarray(model.logits(inputs.followed_by(greedy[:-1])))
        arrays |= keep_scores(logits, tokens, rows["logits/rows"], greedy)


def _with(parsed: Parsed, media: Sequence[Any]) -> list[dict[str, Any]]:
    """The messages with embeddings in the places of their media."""
    rest, messages = iter(media), []
    for message in parsed.messages:
        if not isinstance(message["content"], str):
            parts = [
                part if part["type"] == "text" else {"type": part["type"], part["type"]: next(rest)}
                for part in message["content"]
            ]
            message = {**message, "content": parts}
        messages.append(message)
    return messages


def text_array(text: str) -> np.ndarray:
    """A text as bytes."""
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def text_of(array: np.ndarray) -> str:
    """A text that was kept as bytes."""
    return bytes(array).decode("utf-8", errors="replace")
