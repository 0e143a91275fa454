"""Teaches the demo's towers to tell what lies under each of their tokens, before the decoder learns to read them.

    python -m samples.demo_recipe.train_demo_towers START

Answers alone teach a tower little at first: while the decoder does not look, what it would see does not matter. So each
token of a picture is first asked for the colour, the shape or the digit whose middle lies in it, in a clip also for the
way that the shape moves, and each token of a recording for the word or tone that sounds. Writes the towers' weights to
START; train_demo.py goes on from them.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

import omni
from encoders.buckets import audio_calls, vision_calls
from omni.loading import Parts
from processors import AudioProcessor, ImageProcessor, VideoProcessor
from samples.demo_recipe import clips, conversations, photographs, sounds
from samples.demo_recipe.pictures import COLOURS, NUMBERS, SHAPES, Thing, draw_digits, draw_placed, some_things

# Classes of each question that a token is asked; 0 is "nothing here", -1 is not asked.
SEEN = (1 + len(COLOURS), 1 + len(SHAPES), 1 + len(NUMBERS), 1 + len(clips.WAYS))
HEARD = (1 + len(sounds.WORDS) + len(sounds.TONES) + 1,)
LENGTH, CHUNKS, TOKENS_A_CHUNK = 64, 4, 13

Example = tuple[tuple[np.ndarray, ...], np.ndarray]
# Rows of a tower, the classes of their tokens, and how many of them a step takes.
Lesson = tuple[tuple[np.ndarray, ...], np.ndarray, int]


def picture(config: Any, settings: Any, seed: int) -> list[Example]:
    """A row of the vision tower, and the classes of its tokens."""
    random = np.random.RandomState((seed, 7))
    kind, named = random.choice(3, p=[0.55, 0.35, 0.1]), []
    if kind == 0:
        things = some_things(random, 1 + random.randint(5), test=False)
        drawn, middles = draw_placed(random, things)
        named = [_named(thing) for thing in things]
    elif kind == 1:
        images, targets = conversations._digits()
        chosen = random.randint(0, 1437, random.choice([1, 2, 3], p=[0.7, 0.15, 0.15]))
        drawn = draw_digits(random, images[chosen])
        middles = [((i + 0.5) / len(chosen), 0.5) for i in range(len(chosen))]
        named = [(0, 0, int(targets[i]) + 1, -1) for i in chosen]
    else:
        drawn = photographs.part(random, test=False) if random.rand() < 0.7 else photographs.pattern(random)
        middles = []
    features = ImageProcessor(settings)(drawn)
    (call,) = vision_calls(features.pixels, features.grid_thw, config, 1, (LENGTH,))
    return [(tuple(array[0] for array in call.rows), _asked(features.grid_thw, middles, named, -1))]


def clip(config: Any, settings: Any, seed: int) -> list[Example]:
    """A row for every two frames of a clip."""
    random = np.random.RandomState((seed, 9))
    if random.rand() < 0.9:
        (thing,), way = some_things(random, 1, test=False), random.randint(len(clips.WAYS))
        content, middles = clips.moving_placed(random, thing, list(clips.WAYS)[way])
        named = [(*_named(thing)[:3], way + 1)]
    else:
        content, middles, named = clips.panning(random, test=False), [], []
    features = VideoProcessor(settings)(content)
    steps = int(features.grid_thw[0, 0])
    calls = vision_calls(features.pixels, features.grid_thw, config, 1, (LENGTH,))
    # Between its two frames the thing lies half way.
    shown = np.linspace(0, len(middles) - 1, 2 * steps).round().astype(int).reshape(steps, 2)
    return [
        (
            tuple(array[0] for array in call.rows),
            _asked(features.grid_thw, [np.mean([middles[i] for i in pair], 0)] if middles else [], named, 0),
        )
        for call, pair in zip(calls, shown, strict=True)
    ]


def _named(thing: Thing) -> tuple[int, int, int, int]:
    return list(COLOURS).index(thing.colour) + 1, SHAPES.index(thing.shape) + 1, 0, -1


def _asked(grid_thw: np.ndarray, middles: Sequence[Any], named: Sequence[tuple[int, ...]], ways: int) -> np.ndarray:
    """The classes of each token of a frame, of which those with a thing's middle have names."""
    rows, columns = grid_thw[0, 1:] // 2
    classes = np.full((LENGTH // 4, len(SEEN)), -1, np.int32)
    classes[: rows * columns] = (0, 0, 0, ways)
    for (x, y), names in zip(middles, named, strict=True):
        at = [min(max(int(part * count), 0), count - 1) for part, count in ((y, rows), (x, columns))]
        classes[at[0] * columns + at[1]] = names
    return classes


def sound(config: Any, settings: Any, seed: int) -> list[Example]:
    """A row of the audio tower, and the classes of its tokens."""
    random = np.random.RandomState((seed, 8))
    kind = random.choice(3, p=[0.75, 0.1, 0.15])
    if kind == 0:
        said = random.randint(0, len(sounds.WORDS), 1 + random.randint(3))
        samples, times = sounds.speak_timed(random, [sounds.WORDS[i] for i in said], test=False)
        names = [1 + int(i) for i in said]
    elif kind == 1:
        heights = random.randint(0, 3, 1 + random.randint(3))
        samples, times = sounds.tones_timed(random, [list(sounds.TONES)[i] for i in heights])
        names = [1 + len(sounds.WORDS) + int(i) for i in heights]
    else:
        samples = sounds.elsewhere(random, test=False)
        times, names = [(0.0, len(samples) / sounds.RATE)], [HEARD[0] - 1]
    samples = samples[: CHUNKS * sounds.RATE]
    mel = AudioProcessor(settings)(samples).mel
    (call,) = audio_calls([mel], config)
    (blocks, conv_frames, lengths) = call.rows
    room = CHUNKS - blocks.shape[1]
    blocks = np.pad(blocks[0], [(0, room), (0, 0), (0, 0)])
    conv_frames = np.pad(conv_frames[0], (0, room), mode="edge")
    at = np.arange(CHUNKS)[:, None] + (np.arange(TOKENS_A_CHUNK) + 0.5) * 0.08
    classes = np.zeros((CHUNKS * TOKENS_A_CHUNK, 1), np.int32)
    for (start, end), name in zip(times, names, strict=True):
        classes[(at.reshape(-1) >= start) & (at.reshape(-1) < end)] = name
    classes[lengths[0] :] = -1
    return [((blocks, conv_frames, lengths[0]), classes)]


class Taught(nnx.Module):
    """A tower with a linear answer to each question a token is asked."""

    def __init__(self, tower: nnx.Module, width: int, classes: int, rngs: nnx.Rngs):
        self.tower = tower
        self.answer = nnx.Linear(width, classes, rngs=rngs)


def losses(taught: Taught, rows: tuple, classes: jax.Array, heads: tuple) -> tuple[jax.Array, jax.Array]:
    """The mean cross entropy, what is there weighing as much as what is not; the share of things named rightly."""
    out = taught.tower(*rows)
    tokens = out.tokens if hasattr(out, "tokens") else out
    logits = taught.answer(tokens.reshape(*classes.shape[:2], -1))
    total, right, count, start = 0.0, 0.0, 0.0, 0
    for i, size in enumerate(heads):
        wanted = classes[..., i]
        scores = jax.nn.log_softmax(logits[..., start : start + size])
        start += size
        found = -jnp.take_along_axis(scores, jnp.maximum(wanted, 0)[..., None], -1)[..., 0]
        for asked in (wanted > 0, wanted == 0):
            total += jnp.where(asked, found, 0).sum() / jnp.maximum(asked.sum(), 1)
        right += ((scores.argmax(-1) == wanted) & (wanted > 0)).sum()
        count += (wanted > 0).sum()
    return total, right / jnp.maximum(count, 1)


def teach(tower: Any, width: int, heads: tuple, lessons: Sequence[Lesson], steps: int, lr: float) -> None:
    """Trains a tower in place; the answers' weights are thrown away."""
    taught = Taught(tower, width, sum(heads), nnx.Rngs(1))
    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, steps // 20 + 1, steps, lr / 20)
    decayed = lambda tree: jax.tree.map(lambda a: a.ndim > 1, tree)  # noqa: E731
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.05, mask=decayed))
    graph, weights = nnx.split(taught)
    moments = optimiser.init(weights)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(weights: Any, moments: Any, batches: list[tuple]):
        def loss(weights: Any):
            module = nnx.merge(graph, weights)
            each = [losses(module, rows, classes, heads) for rows, classes in batches]
            return sum(value for value, _ in each), [right for _, right in each]

        (value, right), gradients = jax.value_and_grad(loss, has_aux=True)(weights)
        changes, moments = optimiser.update(gradients, moments, weights)
        return optax.apply_updates(weights, changes), moments, value, right

    recent = np.zeros(len(lessons))
    orders = zip(*(_orders(len(classes), size, steps) for _, classes, size in lessons), strict=True)
    with tqdm(total=steps, unit="step") as bar:
        for chosen in orders:
            batches = [
                (tuple(array[of] for array in rows), classes[of])
                for (rows, classes, _), of in zip(lessons, chosen, strict=True)
            ]
            weights, moments, value, right = step(weights, moments, batches)
            recent = 0.98 * recent + 0.02 * np.array([float(share) for share in right])
            bar.update()
            shares = " ".join(f"{share:.1%}" for share in recent)
            bar.set_postfix(loss=f"{float(value):.3f}", right=shares, refresh=False)
    nnx.update(taught, weights)


def _orders(count: int, size: int, steps: int) -> Iterator[np.ndarray]:
    random, order = np.random.RandomState(0), np.empty(0, int)
    for _ in range(steps):
        if len(order) < size:
            order = random.permutation(count)
        yield order[:size]
        order = order[size:]


def made(maker: Callable[[int], list[Example]], count: int, title: str, size: int) -> Lesson:
    with ProcessPoolExecutor() as pool:
        each = tqdm(pool.map(maker, range(count), chunksize=100), total=count, desc=title)
        found = [example for examples in each for example in examples]
    rows = tuple(np.stack(arrays) for arrays in zip(*(row for row, _ in found), strict=True))
    return rows, np.stack([classes for _, classes in found]), size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("start", type=Path)
    parser.add_argument("--pictures", type=int, default=64_000)
    parser.add_argument("--clips", type=int, default=12_000)
    parser.add_argument("--sounds", type=int, default=24_000)
    parser.add_argument("--seeing", type=int, default=6_000, help="steps of 32 pictures and 16 pairs of frames")
    parser.add_argument("--hearing", type=int, default=2_500, help="steps of 32 recordings")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--go-on", action="store_true", help="from the weights that START has")
    options = parser.parse_args()
    model = omni.load(options.start, dtype="float32")
    if not options.go_on:
        # Weights as training begins with them; those of an untrained checkpoint are far larger.
        fresh = Parts(model.config, model.media.image.config, rngs=nnx.Rngs(0))
        nnx.update(model.parts, nnx.state(fresh, nnx.Param))
    width = model.config.text.hidden_size
    vision, audio = model.config.vision, model.config.audio
    stills = made(partial(picture, vision, model.media.image.config), options.pictures, "pictures", 32)
    films = made(partial(clip, vision, model.media.video.config), options.clips, "clips", 16)
    teach(model.parts.vision, width, SEEN, [stills, films], options.seeing, options.lr)
    model.save(options.start, overwrite=True)
    heard = made(partial(sound, audio, model.media.audio.config), options.sounds, "sounds", 32)
    teach(model.parts.audio, width, HEARD, [heard], options.hearing, options.lr)
    model.save(options.start, overwrite=True)


if __name__ == "__main__":
    main()
