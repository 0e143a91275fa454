"""The stages at the sizes of an accelerator, on one device: a table with shares of its peak, and JSON.

    python -m benchmarks.accelerator [--reference-python PYTHON] [--only NAMES] [--seconds 400] [--quick]

Random weights are made on the device. Towers are run with their inputs on the device, and once from and to the host;
the decoder is the thinker of Qwen3-Omni-30B-A3B, whole and in bfloat16, 61 GB. The reference is run as it is, and in
some stages with its layers compiled. Sides follow one another, since they would not fit in memory together. Every stage
is written to benchmarks/results/ as it ends, and none begins once `--seconds` are spent: the next run goes on.
`--quick` runs small sizes, also on a CPU.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.run import RESULTS, Run, arguments, print_stages, run_all
from benchmarks.side import has_reference
from benchmarks.stages import audio, vision
from benchmarks.stages.audio import spectrogram
from benchmarks.stages.stage import Call, Stage, Timed
from benchmarks.stages.text import cost, prompts, reference_reply
from benchmarks.stages.vision import levels, tower_config

DTYPE = "bfloat16"
SMALL_TEXT = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32}
SMALL_TEXT |= {"num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SMALL_TEXT |= {"rope_scaling": {"mrope_section": [6, 5, 5], "rope_type": "default", "interleaved": True}}
CACHE_BYTES = 4 << 30


def _text_config(quick: bool) -> dict[str, Any]:
    return tower_config(quick)["thinker_config"]["text_config"] | (SMALL_TEXT if quick else {})


# --- Ours -------------------------------------------------------------------------------------------------------


def random_weights(make: Callable[[], Any]) -> Any:
    """A module whose parameters are drawn on the device, one layer of a stack at a time.

    Args:
        make: the module, as it would be made with initial weights.
    """
    import jax
    from flax import nnx

    module = nnx.eval_shape(make)
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    for i, (path, variable) in enumerate(flat):
        leaf, norm = variable.get_value(), "norm" in ".".join(map(str, path))
        variable.set_value(_draw(jax.random.key(i, impl="rbg"), leaf.shape, leaf.dtype, norm))
    nnx.update(module, nnx.from_flat_state(flat))
    return module


def _draw(key: Any, shape: tuple[int, ...], dtype: Any, norm: bool) -> Any:
    import jax
    import jax.numpy as jnp

    if norm:
        return jnp.ones(shape, dtype)
    scale = (3 / shape[-1]) ** 0.5

    def layer(key: Any) -> Any:
        return jax.random.uniform(key, shape[1:], dtype, -scale, scale)

    return jax.jit(lambda key: jax.lax.map(layer, jax.random.split(key, shape[0])))(key)


def _tower(part: str, quick: bool) -> Any:
    import jax.numpy as jnp
    from flax import nnx

    from encoders import AudioConfig, AudioTower, VisionConfig, VisionTower

    raw = tower_config(quick)["thinker_config"][f"{part}_config"]
    if part == "vision":
        config = VisionConfig.from_dict(raw)
        return random_weights(lambda: VisionTower(config, rngs=nnx.Rngs(0), dtype=jnp.dtype(DTYPE)))
    sizes = AudioConfig.from_dict(raw)
    return random_weights(lambda: AudioTower(sizes, rngs=nnx.Rngs(0), dtype=jnp.dtype(DTYPE)))


def _on_device(tower: Any, calls: Sequence[Any]) -> Call:
    """A tower over rows that lie on the device, its results left there."""
    import jax

    from encoders.nn.module_weights import Weights

    graph, weights = Weights(tower).read()
    rows = [jax.device_put(call.rows) for call in calls]
    run = jax.jit(lambda weights, rows: graph.merge(weights)(*rows))
    return Call(lambda _: jax.block_until_ready([run(weights, each) for each in rows]), lambda _: np.empty(0))


def _ours_vision(grids: Sequence[vision.Grid], host: bool, quick: bool, _: Path) -> Call:
    from encoders import VisionEmbedder, runner
    from encoders.buckets import vision_calls

    tower, pixels, grid = _tower("vision", quick), levels(grids), np.asarray(grids, np.int32)
    if host:
        embedder = VisionEmbedder(tower)
        return Call(lambda _: embedder.encode(pixels, grid), lambda _: np.empty(0))
    return _on_device(tower, list(vision_calls(pixels, grid, tower.config, runner._PATCHES_AT_ONCE)))


def _ours_audio(seconds: int, quick: bool, _: Path) -> Call:
    from encoders.buckets import audio_calls

    tower = _tower("audio", quick)
    return _on_device(tower, list(audio_calls([spectrogram(seconds)], tower.config)))


def _ours_text(batch: int, tokens: int, new: int, quick: bool, _: Path) -> Call:
    import jax.numpy as jnp
    from flax import nnx

    from omni.decoder import TextConfig, TextDecoder
    from omni.generation.engine import Engine
    from omni.generation.memory import MemoryBudget
    from omni.generation.scheduler import Scheduler, Task
    from omni.options import Sampling
    from omni.prompt.sequence import Prompt

    config = TextConfig.from_dict(_text_config(quick))
    decoder = random_weights(lambda: TextDecoder(config, rngs=nnx.Rngs(0), dtype=jnp.dtype(DTYPE)))
    budget = MemoryBudget(CACHE_BYTES, CACHE_BYTES)
    # Room for the prompts of two rounds: those of the last are held until memory is needed.
    engine = Engine(decoder, budget=budget, slots=2 * batch * (tokens + new), places=batch)
    positions = np.broadcast_to(np.arange(tokens, dtype=np.float32), (3, tokens))

    def run(round: int) -> Any:
        ids = prompts(round, batch, tokens, config.vocab_size).astype(np.int32)
        tasks = [Task(Prompt(row, positions, float(tokens)), Sampling(), new) for row in ids]
        scheduler = Scheduler(engine, batch)
        for task in tasks:
            scheduler.add(task)
        while any(not task.reply and not task.done for task in tasks):
            scheduler.step()
        start, before = time.perf_counter(), len(tasks[-1].reply)
        while scheduler.step():
            pass
        for task in tasks:
            if task.error is not None:
                raise task.error
        return tasks if new == 1 else Timed((time.perf_counter() - start) / (new - before), tasks)

    return Call(run, lambda _: np.empty(0))


# --- The reference ----------------------------------------------------------------------------------------------


def _torch() -> tuple[Any, str]:
    torch: Any = import_module("torch")
    torch.set_grad_enabled(False)
    return torch, "cuda" if torch.cuda.is_available() else "cpu"


def _compiled(layers: Any, wanted: bool) -> None:
    """Compile each layer: all share one program, which takes a fraction of the time of the whole."""
    for layer in layers if wanted else ():
        layer.compile()


def _waited(torch: Any, device: str, call: Callable[[], Any]) -> Callable[[int], Any]:
    def run(_: int) -> Any:
        found = call()
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return run


def _reference_tower(part: str, quick: bool) -> tuple[Any, Any, str]:
    torch, device = _torch()
    modeling: Any = import_module("transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe")
    kind: Any = import_module("transformers").Qwen3OmniMoeThinkerConfig
    name = {"vision": "Qwen3OmniMoeVisionEncoder", "audio": "Qwen3OmniMoeAudioEncoder"}[part]
    settings = getattr(kind(**tower_config(quick)["thinker_config"]), f"{part}_config")
    made = getattr(modeling, name)._from_config(settings, attn_implementation="sdpa", dtype=getattr(torch, DTYPE))
    return torch, made.eval().to(device), device


def _reference_vision(grids: Sequence[vision.Grid], host: bool, quick: bool, compiled: bool, _: Path) -> Call:
    torch, tower, device = _reference_tower("vision", quick)
    _compiled(tower.blocks, compiled)
    values = torch.from_numpy(levels(grids)).reshape(-1, 3, 1, 256).expand(-1, -1, 2, -1).reshape(-1, 1536)
    pixels = (values.float() / 127.5 - 1).to(getattr(torch, DTYPE))
    grid = torch.tensor(list(grids), device=device)
    if host:
        call = lambda: tower(pixels.to(device), grid_thw=grid).pooler_output.float().cpu()  # noqa: E731
    else:
        there = pixels.to(device)
        call = lambda: tower(there, grid_thw=grid).pooler_output  # noqa: E731
    return Call(_waited(torch, device, call), lambda _: np.empty(0))


def _reference_audio(seconds: int, quick: bool, compiled: bool, _: Path) -> Call:
    torch, tower, device = _reference_tower("audio", quick)
    _compiled(tower.layers, compiled)
    mel = torch.from_numpy(spectrogram(seconds)).to(device, getattr(torch, DTYPE))
    length = torch.tensor([mel.shape[1]], device=device)
    call = _waited(torch, device, lambda: tower(mel, feature_lens=length).last_hidden_state)
    return Call(call, lambda _: np.empty(0))


def _reference_text(batch: int, tokens: int, new: int, quick: bool, compiled: bool, _: Path) -> Call:
    torch, device = _torch()
    lib: Any = import_module("transformers")
    raw = _text_config(quick)
    shared = {name: raw[name] for name in ("rms_norm_eps", "rope_theta", "tie_word_embeddings", *SMALL_TEXT)}
    shared.pop("rope_scaling")  # of text alone, whose three positions are one
    with torch.device(device):
        config = lib.Qwen3MoeConfig(**shared)
        model = lib.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, DTYPE)).eval()
    _compiled(model.model.layers, compiled)
    run = partial(reference_reply, model, raw["vocab_size"], batch, tokens, new)
    return Call(run, lambda _: np.empty(0))


# --- Stages -----------------------------------------------------------------------------------------------------


def _sides(ours: Any, reference: Any, both: bool = True) -> dict[str, Any]:
    found = {"ours": ours, "reference": partial(reference, False)}
    return found | ({"compiled": partial(reference, True)} if both else {})


def _stage(name: str, group: str, ours: Any, reference: Any, both: bool = True, **more: Any) -> Stage:
    # One process a side: its first call compiles, and what a second one would find on disk is not asked here.
    sides = _sides(ours, reference, both)
    return Stage(f"{name}, {DTYPE}", group, DTYPE, sides, programs=False, together=False, seconds=10, **more)


def _text(batch: int, tokens: int, new: int, quick: bool, both: bool) -> Stage:
    how, config = (batch, tokens, new, quick), _text_config(quick)
    name = f"decode, {batch} row{'s' * (batch > 1)}" if new > 1 else f"prefill {tokens}"
    return _stage(
        f"thinker of 30B-A3B, {name}",
        "text",
        partial(_ours_text, *how),
        partial(_reference_text, *how),
        both,
        cost=cost(config, 1, DTYPE, batch, tokens + new // 2) if new > 1 else cost(config, tokens, DTYPE, batch),
        items=batch if new > 1 else tokens,
        unit="tokens",
        rounds=(1, 1) if quick else (3, 5),
    )


def stages(quick: bool = False) -> list[Stage]:
    """Towers on the device and from the host, then the decoder."""
    grids: Sequence[vision.Grid] = [(1, 4, 6)] * 2 if quick else [(1, 48, 48)] * 32
    seconds = 1 if quick else 600
    sizes = tower_config(quick)["thinker_config"]
    rounds = (1, 1) if quick else (3, 10)
    images: dict[str, Any] = {"items": len(grids), "unit": "images", "rounds": rounds}
    images["cost"] = vision.cost(grids, sizes["vision_config"], DTYPE)
    name = f"vision tower, {len(grids)} x {16 * grids[0][1]} x {16 * grids[0][2]}"
    few = (32, 4) if quick else (512, 64)
    return [
        _stage(
            f"{name}, on the device",
            "vision",
            partial(_ours_vision, grids, False, quick),
            partial(_reference_vision, grids, False, quick),
            **images,
        ),
        _stage(
            f"{name}, from and to the host",
            "vision",
            partial(_ours_vision, grids, True, quick),
            partial(_reference_vision, grids, True, quick),
            False,
            **images,
        ),
        _stage(
            f"audio tower, {seconds} s, on the device",
            "audio",
            partial(_ours_audio, seconds, quick),
            partial(_reference_audio, seconds, quick),
            cost=audio.cost(seconds, sizes["audio_config"], DTYPE),
            items=seconds,
            unit="seconds of audio",
            rounds=rounds,
        ),
        _text(1, *few, quick, True),
        _text(8, *few, quick, False),
        _text(1, 32 if quick else 4096, 1, quick, False),
    ]


def main() -> None:
    """Run, and print a line a stage."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=400.0, help="no stage begins after so many")
    options = parser.parse_args()
    if options.list:
        print_stages(stages(options.quick))
        return
    python = options.reference_python if has_reference(options.reference_python) else None
    if python is None:
        print(f"no torch and transformers in {options.reference_python}: ours alone")
    with tempfile.TemporaryDirectory() as folder:
        run = Run("benchmarks.accelerator", options.quick, python, Path(folder))
        with run.start("ours") as process:
            device = process.ask("device")
        if device["platform"] == "cpu" and not options.quick:
            parser.error("no accelerator here; --quick runs small sizes on the CPU")
        name = machine.processor() if device["platform"] == "cpu" else device["name"]
        file = machine.slug(f"{name} accelerator") + ("-quick" if options.quick else "")
        try:
            path = options.out or RESULTS / f"{file}.json"
            run_all(run, stages(options.quick), path, options.only, {"processor": name}, options.seconds)
        finally:
            run.close()


if __name__ == "__main__":
    main()
