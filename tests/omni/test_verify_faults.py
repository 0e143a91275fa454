"""Faults planted in every part: `omni verify` leaves with 1, and names the stage that each is in."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import encoders.audio
import encoders.layers
import encoders.projectors
import encoders.vision
import omni
import omni.decoder.layer
import omni.decoder.model
import omni.generation.engine
import omni.layout
import processors.audio
import processors.decode_video
import processors.image
import processors.mel
import processors.video
from encoders.programs import Program
from omni.cli import main
from omni.verification import verify
from omni.verification.cases import default_cases

CASES = ("text", "image", "audios", "video_sampled", "video_audio")


@pytest.fixture(scope="module")
def few():
    """Cases that show every fault."""
    patch = pytest.MonkeyPatch()
    patch.setattr(verify, "default_cases", lambda *a, **k: [c for c in default_cases(*a, **k) if c.name in CASES])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def record(few, tiny_checkpoint, tmp_path_factory):
    """What the checkpoint gives without a fault."""
    directory = tmp_path_factory.mktemp("record") / "golden"
    assert run("verify", tiny_checkpoint, "--record", directory) == 0
    return directory


@pytest.fixture
def planted(monkeypatch):
    """Puts faults in; what was compiled without them, or with, is forgotten."""
    jax.clear_caches()
    yield monkeypatch
    jax.clear_caches()


def run(*arguments) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["omni", *map(str, arguments)])
        try:
            main()
        except SystemExit as leaving:
            return int(leaving.code or 0)
    return 0


def wrapped(patch, owner, name, change):
    """Puts `change(result, *arguments)` in the place of a function's result."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *a, **k: change(original(*a, **k), *a, **k))


def replaced(patch, owner, name, call):
    """Puts `call(original, *arguments)` in the place of a function."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *a, **k: call(original, *a, **k))


# --- Faults, by the stage that each is in -----------------------------------------------------------------------------


def channels_swapped(patch):
    for module in (processors.image, processors.video):
        wrapped(patch, module, "resize_frame", lambda frame, *_: frame[..., ::-1])


def patches_row_by_row(patch):
    def write(frame, out, config):
        size, (height, width, _) = config.patch_size, frame.shape
        rows = frame.reshape(height // size, size, width // size, size, 3).transpose(0, 2, 4, 1, 3)
        out[...] = rows.reshape(out.shape)

    patch.setattr(processors.image, "write_patches", write)


def patches_transposed(patch):
    wrapped(patch, processors.image, "resize_frame", lambda frame, *_: frame)
    original = processors.image.write_patches

    def write(frame, out, config):
        original(frame, out, config)
        blocks = out.reshape(-1, 2, 2, out.shape[-1])
        out[...] = blocks.swapaxes(1, 2).reshape(out.shape)

    patch.setattr(processors.image, "write_patches", write)


def a_frame_later(patch):
    wrapped(patch, processors.decode_video, "spread", lambda ranks, total, *_: np.minimum(ranks + 1, total - 1))


def clock_by_first_frames(patch):
    first = property(lambda self: tuple(self.timestamps[:: self.config.temporal_patch_size].tolist()))
    patch.setattr(processors.video.VideoFeatures, "grid_timestamps", first)


def mel_floor(patch):
    patch.setattr(processors.mel, "_RANGE", np.float32(7.0))


def mel_hop(patch):
    replaced(
        patch, processors.audio, "log_mel", lambda make, wave, c: make(wave, dataclasses.replace(c, hop_length=161))
    )


def vision_gelu(patch):
    patch.setitem(encoders.layers._ACTIVATIONS, "gelu_pytorch_tanh", lambda x: jax.nn.gelu(x, approximate=False))


def vision_rope_theta(patch):
    replaced(patch, encoders.vision, "axial_rotation", lambda turn, at, width, theta: turn(at, width, 10 * theta))


def vision_positions_in_bfloat16(patch):
    replaced(
        patch,
        encoders.vision.PositionTable,
        "__call__",
        lambda read, *a: read(*a).astype(jnp.bfloat16).astype(jnp.float32),
    )


def audio_convolution_gelu(patch):
    patch.setattr(encoders.audio, "activation", lambda _: jax.nn.gelu)


def audio_projector_gelu(patch):
    call = lambda self, x: self.proj2(jax.nn.gelu(self.proj1(x)))  # noqa: E731
    patch.setattr(encoders.projectors.AudioProjector, "__call__", call)


def deepstack_level_missing(patch):
    replaced(
        patch,
        encoders.projectors.VisionProjector,
        "__call__",
        lambda call, *a: (seen := call(*a))._replace(deepstack=seen.deepstack.at[-1].set(0)),
    )


def deepstack_levels_in_another_order(patch):
    replaced(
        patch,
        encoders.projectors.VisionProjector,
        "__call__",
        lambda call, *a: (seen := call(*a))._replace(deepstack=seen.deepstack[::-1]),
    )


def template_space(patch):
    original = omni.template.ChatTemplate.from_directory.__func__

    def read(cls, *a, **k):
        source = original(cls, *a, **k).source
        assert "<|im_start|>assistant\\n" in source
        return cls(source.replace("<|im_start|>assistant\\n", "<|im_start|>assistant \\n"))

    patch.setattr(omni.template.ChatTemplate, "from_directory", classmethod(read))


def users_text_as_control_tokens(patch):
    replaced(
        patch,
        omni.tokenizer.Tokenizer,
        "encode_prompt",
        lambda encode, self, text, mark: encode(self, text.replace(mark, ""), mark),
    )


def sound_before_frames(patch):
    replaced(patch, omni.layout, "_merge", lambda merge, first, second: ~merge(second, first))


def position_off_by_one(patch):
    wrapped(patch, omni.layout._Writer, "_grid_positions", lambda positions, *_: positions + np.float32(1))


def next_position_off_by_one(patch):
    wrapped(
        patch, omni.layout._Writer, "finish", lambda out, *_: dataclasses.replace(out, next_position=out.next_position + 1)
    )


def table_in_bfloat16(patch):
    replaced(
        patch,
        omni.decoder.model.Embedding,
        "__call__",
        lambda read, *a: (x := read(*a)).astype(jnp.bfloat16).astype(x.dtype),
    )


def media_rows_misplaced(patch):
    replaced(
        patch,
        omni.inputs.Inputs,
        "to_prompt",
        lambda make, self: dataclasses.replace(
            (prompt := make(self)),
            overlays=tuple(dataclasses.replace(o, indices=o.indices - np.int32(1)) for o in prompt.overlays),
        ),
    )


def rope_theta(patch):
    replaced(
        patch, omni.decoder.model, "rotation", lambda turn, at, width, theta, section: turn(at, width, 1.01 * theta, section)
    )


def norm_epsilon(patch):
    replaced(
        patch,
        omni.decoder.layer,
        "RMSNorm",
        lambda norm, width, eps, **k: norm(width, 1e-5, **k),
    )


def norm_weights_centred(patch):
    original = omni.decoder.layer.RMSNorm
    patch.setattr(omni.decoder.layer, "RMSNorm", lambda *a, **k: original(*a, **{**k, "zero_centered": True}))


def experts_not_normalised(patch):
    original = omni.decoder.layer.SparseMoeBlock
    def make(config, **k):
        block = original(config, **k)
        block.normalise = False
        return block

    patch.setattr(omni.decoder.layer, "SparseMoeBlock", make)


def deepstack_a_layer_late(patch):
    def add(original, x, deepstack, block, i):
        return original(x, None if deepstack is None else jnp.roll(deepstack, 1, axis=0), block, i)

    replaced(patch, omni.decoder.model, "_add_level", add)


def scores_in_bfloat16(patch):
    replaced(
        patch,
        omni.decoder.model.TextDecoder,
        "logits",
        lambda score, self, hidden: score(self, hidden.astype(jnp.bfloat16).astype(hidden.dtype)),
    )


def cached_steps_a_position_late(patch):
    read = omni.generation.engine._read_one
    step = Program(
        lambda graph, state, cache, tokens, positions, counts: read(graph, state, cache, tokens, positions + 40, counts),
        static_argnums=(0,),
    )
    patch.setattr(omni.generation.engine, "_step", step)


FAULTS = {
    channels_swapped: "pixels",
    patches_row_by_row: "pixels",
    patches_transposed: "pixels",
    a_frame_later: "pixels",
    clock_by_first_frames: "clock",
    mel_floor: "mel",
    mel_hop: "mel",
    vision_gelu: "vision",
    vision_rope_theta: "vision",
    vision_positions_in_bfloat16: "vision",
    audio_convolution_gelu: "audio",
    audio_projector_gelu: "audio",
    deepstack_level_missing: "deepstack",
    deepstack_levels_in_another_order: "deepstack",
    template_space: "prompt",
    users_text_as_control_tokens: "prompt_ids",
    sound_before_frames: "token_ids",
    position_off_by_one: "positions",
    next_position_off_by_one: "positions",
    table_in_bfloat16: "embedded",
    media_rows_misplaced: "embedded",
    rope_theta: "hidden",
    norm_epsilon: "hidden",
    norm_weights_centred: "hidden",
    experts_not_normalised: "hidden",
    deepstack_a_layer_late: "hidden",
    scores_in_bfloat16: "logits",
    cached_steps_a_position_late: "greedy",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_seen_and_its_stage_is_named(record, planted, tiny_checkpoint, tmp_path, capsys, fault):
    fault(planted)
    assert run("verify", tiny_checkpoint, "--against", record, "--json", tmp_path / "out.json") == 1
    assert f"the first stage that differs: {FAULTS[fault]}" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["first"] == FAULTS[fault]


def test_without_a_fault_nothing_differs(record, planted, tiny_checkpoint, capsys):
    assert run("verify", tiny_checkpoint, "--against", record) == 0
    assert "5 cases, every stage within its tolerance" in capsys.readouterr().out
