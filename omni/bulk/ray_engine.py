"""A bulk job on a Ray cluster: Ray Data moves its batches from actors that decode to actors that hold the model.

The manifest, its parts and who writes them are those of a job on one machine, so a job may begin on one and go on
on the other. A row of the data set is a batch of the manifest: no cluster, however large or troubled, changes which
items are encoded together.
"""

import importlib
import json
import os
import pickle
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from omni.bulk.items import Item
from omni.bulk.manifest import Part
from omni.bulk.pipeline import Encoded, Reader, batches_of
from omni.bulk.recipe import Recipe
from omni.bulk.results import Result
from omni.bulk.storage import extra
from omni.errors import CheckpointError, InputError, is_number, is_whole, shown
from processors import Access
from processors.features import Processors

Keep = Literal["number", "tokens", "all"]
_MOST_BLOCKS = 10_000
"""Blocks that a job is cut into; Ray keeps something in memory for each."""


@dataclass(frozen=True)
class RayEngine:
    """Where on a Ray cluster a job runs, and on how much of it.

    Attributes:
        address: of the cluster, as `ray.init` takes it: "auto" is the one that runs on this machine, None that or else
            one that is started for the job. Where Ray is connected already, that connection is used.
        encoders: actors that hold the model; None is one for each GPU that they can have, and one without any.
        cpus: cores for each of them.
        gpus: GPUs for each of them, less than 1 where several share one; None is 1 where the cluster has any.
        resources: what else each of them takes, such as {"TPU": 4}.

    Raises:
        InputError: `bad_option`.
    """

    address: str | None = None
    encoders: int | None = None
    cpus: float = 1
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.encoders is not None and (not is_whole(self.encoders) or self.encoders < 1):
            raise InputError("bad_option", f"encoders must be a whole number of 1 or more, not {shown(self.encoders)}")
        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if value is not None and (not is_number(value) or value < 0):
                raise InputError("bad_option", f"{name} must be a number of 0 or more, not {shown(value)}")


def encode_on_ray(
    parts: Callable[[], Iterator[Part]],
    recipe: Recipe,
    processors: Processors,
    engine: RayEngine,
    *,
    decoders: int | None,
    batch_size: int,
    keep: Keep,
) -> Encoded:
    """Encode parts as `encode_parts` does, in the same batches and the same order, on a Ray cluster.

    Actors that end, and nodes that are lost, cost the batches that they had at hand, which Ray does again elsewhere.

    Args:
        parts: gives the parts anew at each call.
        recipe: how items are encoded.
        processors: how they are read.
        engine: the cluster.
        decoders: most actors that decode; as many as cores are left when None.
        batch_size: items that are encoded together.
        keep: what results bring with them of an item's tokens.

    Raises:
        InputError: `needs_ray_extra`, `ray_unreachable`, `ray_too_small`, `ray_failed`.
    """
    ray = import_ray()
    if not (blocks := _blocks(parts(), batch_size)):
        return
    with _connection(ray, engine.address):
        encoders, least, decoders = _plan(engine, ray.cluster_resources(), decoders)
        data = ray.data.from_arrow(blocks)
        data.context.enable_progress_bars = False
        data.context.execution_options.preserve_order = True
        pool, folder = ray.data.ActorPoolStrategy, os.getcwd()
        data = data.map(
            _ReadBatch,
            fn_constructor_args=(processors, recipe.access, folder),
            compute=pool(min_size=1, max_size=decoders),
            num_cpus=1,
        ).map(
            _EncodeBatch,
            fn_constructor_args=(recipe, keep, folder),
            compute=pool(size=encoders),
            **least,
        )
        yield from _results(ray, data, batches_of(parts(), batch_size))


def import_ray() -> Any:
    """Import Ray with Ray Data.

    Raises:
        InputError: `needs_ray_extra`, it is not installed.
    """
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
        return ray
    except ImportError:
        raise InputError("needs_ray_extra", 'the engine ray needs Ray: pip install "omni-jax[ray]"') from None


def claim_share() -> None:
    """Let JAX take no more of a machine than Ray has assigned to this actor; before JAX begins to work."""
    assigned = import_ray().get_runtime_context().get_assigned_resources()
    if cores := int(assigned.get("CPU", 0)):
        os.environ.setdefault("NPROC", str(cores))  # by which XLA counts its threads on the CPU
    if 0 < (share := assigned.get("GPU", 0)) < 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.75 * share:.3f}")


class _ReadBatch:
    """An actor that reads and decodes batches, an item at a time."""

    def __init__(self, processors: Processors, access: Access, folder: str):
        _enter(folder)
        self._reader = Reader(processors, access, 1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        futures = [self._reader.submit(item) for item in _items(row["items"])]
        return row | {"contents": pickle.dumps([future.result() for future in futures], protocol=5)}


class _EncodeBatch:
    """An actor that holds the model."""

    def __init__(self, recipe: Recipe, keep: Keep, folder: str):
        _enter(folder)
        claim_share()
        self._keep: Keep = keep
        self._encoder = recipe.encoder(recipe.load())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        results = self._encoder.encode(_items(row["items"]), pickle.loads(row["contents"]))
        kept = [_lightened(result, self._keep) for result in results]
        return {"number": row["number"], "results": pickle.dumps(kept, protocol=5)}


def _enter(folder: str) -> None:
    """Go where the job was started, for the relative paths that it names."""
    if os.path.isdir(folder):
        os.chdir(folder)


def _lightened(result: Result, keep: Keep) -> Result:
    """The same without what its sink does not write, which is thousands of times as large as a vector."""
    if (one := result.embedding) is None or keep == "all":
        return result
    tokens = one.tokens if keep == "tokens" else one.tokens[:, :0].copy()
    return replace(result, embedding=replace(one, tokens=tokens, deepstack=None, audio=None))


def _items(lines: str) -> list[Item]:
    return [Item(name, kind, tuple(where), below) for name, kind, where, below in json.loads(lines)]


def _blocks(parts: Iterator[Part], batch_size: int) -> list[Any]:
    """All batches as tables of a few rows, each row a batch: the unit of what Ray moves, and does again."""
    arrow = extra("pyarrow")
    lines = [json.dumps(items, separators=(",", ":")) for _, items in batches_of(parts, batch_size)]
    rows = -(-len(lines) // _MOST_BLOCKS)
    schema = arrow.schema([("number", arrow.int64()), ("items", arrow.large_string())])
    return [
        arrow.table([range(start, min(start + rows, len(lines))), lines[start : start + rows]], schema=schema)
        for start in range(0, len(lines), rows or 1)
    ]


def _plan(engine: RayEngine, cluster: Mapping[str, float], decoders: int | None) -> tuple[int, dict[str, Any], int]:
    """How many actors encode, what each of them takes, and how many may decode."""
    there = cluster.get("GPU", 0)
    gpus = (1.0 if there else 0.0) if engine.gpus is None else float(engine.gpus)
    encoders = engine.encoders or (max(1, int(there / gpus)) if gpus else 1)
    wanted = {"CPU": encoders * engine.cpus + 1, "GPU": encoders * gpus}
    wanted |= {name: encoders * amount for name, amount in engine.resources.items()}
    for name, amount in wanted.items():
        if amount > cluster.get(name, 0):
            message = f"the job takes {amount:g} {name}, one CPU for decoding included, and the cluster has"
            raise InputError("ray_too_small", f"{message} {cluster.get(name, 0):g}")
    least = {"num_cpus": engine.cpus, "num_gpus": gpus or None, "resources": dict(engine.resources) or None}
    free = max(1, int(cluster["CPU"] - encoders * engine.cpus))
    return encoders, {name: value for name, value in least.items() if value is not None}, min(decoders or free, free)


def _results(ray: Any, data: Any, batches: Iterator[tuple[Part, Any]]) -> Generator[Any, None, None]:
    rows = iter(data.iter_rows())
    for number, (part, _) in enumerate(batches):
        try:
            row = next(rows, None)
        except ray.exceptions.RayError as error:
            raise _refusal(error) from error
        if row is None or row["number"] != number:
            raise InputError("ray_failed", f"Ray did not give back batch {number:,} in its turn")
        yield part, pickle.loads(row["results"])


@contextmanager
def _connection(ray: Any, address: str | None) -> Iterator[None]:
    """A connection to the cluster, which ends with the job where the job began it."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, logging_level="warning", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError("ray_unreachable", f"no Ray cluster answers: {str(error)[:200]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _refusal(error: BaseException) -> InputError | CheckpointError:
    """What ended an actor, if that was an error of ours."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, InputError | CheckpointError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return InputError(
        "ray_failed", f"Ray ended the job with {type(error).__name__}: {lines[-1][:300] if lines else ''}"
    )
