"""The loop: batches in, better weights out, and a run that survives being killed."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from encoders.nn.compile import compiler_options, is_small
from encoders.nn.context import in_own_context
from encoders.nn.mesh import on_mesh
from omni.loading import PARTS
from omni.model import Model
from omni.training.batch import Batch
from omni.training.data import Conversation, batches, mixed, validation_batches
from omni.training.defaults import completed
from omni.training.loss import loss_and_counts
from omni.training.options import TrainingOptions
from omni.training.parameters import TrainableParameters, Weights
from omni.training.state import keep_options, load_progress, save_progress
from omni.training.validation import Validation

# Programs that are kept, the last that were used. One holds thousands of memory maps, a process 65,530.
_PROGRAMS = 16
# Up to so many steps a small model's programs take longer to compile with care than they save.
_FEW_STEPS = 1000


@dataclass(frozen=True)
class Metrics:
    """One step.

    Attributes:
        step: batches trained on so far.
        loss: mean cross entropy of the learned tokens, in nats.
        tokens: how many there were.
        gradient_norm: before clipping.
        seconds: since the metrics before, or the beginning.
        validation_loss: the same of conversations that are not learned, where this step was followed by a measurement.
    """

    step: int
    loss: float
    tokens: int
    gradient_norm: float
    seconds: float
    validation_loss: float | None = None


def train(
    model: Model,
    conversations: Sequence[Conversation],
    directory: Path,
    options: TrainingOptions,
    *,
    mix: Sequence[Conversation] = (),
    validation: Sequence[Conversation] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Metrics]:
    """Trains a model on conversations, a step each time the next metrics are asked for; the step after is then begun.

    The state is saved to `directory` every `save_every` steps, and a call with the same arguments goes on from there.
    After the last step the model goes on with the new weights, and `model.save` writes them as a checkpoint.

    Args:
        model: as `omni.load` gives it.
        conversations: as `read_jsonl` gives them.
        directory: of the state; made where it is absent.
        options: how long, how fast, and what is trained.
        mix: earlier conversations that the model is not to forget: `options.mix_share` of the batches hold them.
        validation: conversations whose loss is measured on the way. Training stops when it no longer falls, and the
            model goes on with the weights of the lowest.
        stop: asked after each step; where it returns True, the state is saved and training ends without new weights.

    Raises:
        InputError: a conversation or an option cannot be used.
        CheckpointError: the directory holds the state of a run with another model or other options.
    """
    share = options.mix_share if mix else 0.0
    options = completed(options, model, len(conversations), share)
    keep, parts = int(options.keep_gib * 2**30), PARTS if options.parts is None else options.parts
    # Towers that stay as they are need to see a medium once.
    encoder = model.media if options.lora is not None or not {"vision", "audio"} & set(parts) else None

    def of(chosen: Sequence[Conversation]) -> Callable[[int], Iterator[Batch]]:
        return lambda first: batches(model, chosen, options.batch_size, options.seed, first, keep, encoder)

    def made(first: int) -> Iterator[Batch]:
        return mixed(of(conversations), of(mix), share, first) if mix else of(conversations)(first)

    held = validation_batches(model, validation, options.batch_size, encoder) if validation else ()
    yield from train_on(model, made, directory, options, validation=held, stop=stop)


@in_own_context
def train_on(
    model: Model,
    made: Callable[[int], Iterator[Batch]],
    directory: Path,
    options: TrainingOptions,
    *,
    validation: Sequence[Batch] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Metrics]:
    """As `train`, on batches from anywhere.

    Args:
        model: whose weights are trained.
        made: batches, from the one with that number on, counted from 0.
        directory: for the state.
        options: all but those about conversations.
        validation: batches whose loss is measured on the way.
        stop: asked after each step; where it returns True, the state is saved and training ends without new weights.

    Raises:
        CheckpointError: the directory holds the state of a run with another model or other options.
        ValueError: batches end before the last step.
    """
    options = completed(options, model)
    assert options.steps is not None
    names = PARTS if options.parts is None else options.parts
    trained = TrainableParameters(model.parts, names, options.lora, options.seed)
    optimiser = _optimiser(options)
    rates = np.asarray(jax.vmap(_schedule(options))(jnp.arange(options.steps)), np.float32)
    state: Any = (trained.start, optimiser.init(trained.start), jnp.int32(0))  # pyright: ignore[reportArgumentType]
    directory.mkdir(parents=True, exist_ok=True)
    keep_options(directory, options)
    frozen, state = _placed(trained.frozen, trained.mesh), _placed(state, trained.mesh)
    loaded = load_progress(directory, state)
    if loaded is not None:
        state = jax.tree.map(lambda array, before: jax.device_put(array, _place(before)), loaded, state)
    state = jax.tree.map(jnp.asarray, state)
    every = options.check_every or max(1, options.steps // 10)
    checks = Validation(trained, validation, directory, options.patience * every) if validation else None
    first = saved = int(state[2])
    last = first if checks is not None and checks.is_over(first) else options.steps
    step = _step(trained, optimiser, options, state, frozen)
    began, stopped = time.perf_counter(), False
    # A step runs while the next one's batch is made ready: what it measured is read one step later.
    running: tuple[int, Any, float | None] | None = None
    for done, batch in zip(range(first + 1, last + 1), made(first), strict=False):
        rate = jnp.asarray(rates[done - 1])
        state, *measured = step(state, frozen, rate, jax.tree.map(jnp.asarray, batch))
        if running is not None:
            yield _metrics(*running, began)
            began = time.perf_counter()
        held = checks.check(done, state[0]) if checks is not None and done % every == 0 else None
        running = done, measured, held
        stopped, over = stop(), checks is not None and checks.is_over(done)
        if done % options.save_every == 0 or done == options.steps or stopped or over:
            save_progress(directory, state)
            saved = done
        if stopped or over:
            last = done
            break
    if running is not None:
        yield _metrics(*running, began)
    if stopped and saved < options.steps:
        return
    if int(state[2]) < last:
        raise ValueError(f"batches ended after step {int(state[2])} of {options.steps}")
    trained.write(state[0] if checks is None or not checks.best_step else checks.best_weights, model.parts)
    model.refresh()


def _metrics(step: int, measured: Any, validation_loss: float | None, began: float) -> Metrics:
    loss, tokens, norm = (number.item() for number in measured)
    return Metrics(step, loss, tokens, norm, time.perf_counter() - began, validation_loss)


def _schedule(options: TrainingOptions) -> optax.Schedule:
    assert options.steps is not None and options.learning_rate is not None
    warmup, rate = max(1, options.steps // 20), options.learning_rate
    return optax.warmup_cosine_decay_schedule(
        0.0, rate, warmup, max(options.steps, warmup + 1), rate * options.last_share
    )


def _optimiser(options: TrainingOptions) -> optax.GradientTransformation:
    """AdamW but for its learning rate: that is an argument of a step, so that other rates are no other programs."""
    return optax.chain(
        optax.clip_by_global_norm(options.clip_norm),
        optax.scale_by_adam(b2=0.98),
        optax.add_decayed_weights(options.weight_decay, _decayed),
    )


def _moved(weights: Weights, changes: Any, rate: jax.Array, tower_share: float) -> Weights:
    """Towers know pictures and sounds of all kinds, and forget them soon: beside a decoder they move more slowly."""
    beside = any(path.startswith("text.") for path in weights)
    share = {path: 1.0 if path.startswith("text.") or not beside else tower_share for path in weights}
    return {path: weight - share[path] * rate * changes[path] for path, weight in weights.items()}


def _decayed(weights: Any) -> dict[str, bool]:
    return {name: "norm" not in name and "bias" not in name for name in weights}


def _place(array: Any) -> NamedSharding | None:
    """Where an array lies on a mesh; None for one on a single device."""
    sharding = getattr(array, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) else None


def _placed(tree: Any, mesh: Mesh | None) -> Any:
    """All arrays on the mesh: those that are not yet, whole on each of its devices."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda array: array if _place(array) else jax.device_put(array, whole), tree)


def _kept_in_place(tree: Any, places: Any) -> Any:
    """Has what a program returns lie where its arguments lay, so that it can be an argument again."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        [
            leaf if place is None else jax.lax.with_sharding_constraint(leaf, place)
            for leaf, place in zip(leaves, places, strict=True)
        ]
    )


def _step(
    trained: TrainableParameters,
    optimiser: optax.GradientTransformation,
    options: TrainingOptions,
    state: Any,
    frozen: Any,
) -> Any:
    """A step as a function of state, frozen weights, learning rate and batch.

    The gradient is a program for each shape of a batch; what is made of it is one program for all.
    """

    def gradient(weights: Any, frozen: Any, batch: Batch) -> tuple[Any, Any]:
        def loss(weights: Any) -> tuple[jax.Array, jax.Array]:
            return loss_and_counts(trained.module(weights, frozen), batch)

        with on_mesh(mesh):
            measured, gradients = jax.value_and_grad(loss, has_aux=True)(weights)
        return _kept_in_place(measured, [whole] * 2), _kept_in_place(gradients, places[: len(gradients)])

    def update(state: Any, gradients: Any, rate: jax.Array) -> tuple[Any, jax.Array]:
        weights, moments, count = state
        changes, moments = optimiser.update(gradients, moments, weights)
        weights = _moved(weights, changes, rate, options.tower_share)
        norm = _kept_in_place(optax.tree.norm(gradients), [whole])
        return _kept_in_place((weights, moments, count + 1), places), norm

    # The state's weights are its first leaves.
    mesh, places = trained.mesh, [_place(leaf) for leaf in jax.tree.leaves(state)]
    whole = None if mesh is None else NamedSharding(mesh, PartitionSpec())

    def shape_of(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=_place(array) or whole)

    kept, frozen_shapes = jax.tree.map(shape_of, (state, frozen))
    assert options.steps is not None
    how = compiler_options(options.steps <= _FEW_STEPS and is_small((state[0], frozen)))

    @functools.lru_cache(_PROGRAMS)
    def gradient_program(structure: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
        return jax.jit(gradient).lower(kept[0], frozen_shapes, structure.unflatten(shapes)).compile(how)

    @functools.cache
    def update_program() -> Any:
        form = jax.jit(update, donate_argnums=0)
        return form.lower(kept, kept[0], jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)).compile(how)

    def run(state: Any, frozen: Any, rate: jax.Array, batch: Batch) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        leaves, structure = jax.tree.flatten(batch)
        shapes = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole) for a in leaves)
        measured, gradients = gradient_program(structure, shapes)(state[0], frozen, batch)
        state, norm = update_program()(state, gradients, rate)
        return state, *measured, norm

    return run
