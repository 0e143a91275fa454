"""Faults planted in every part: `omni verify` leaves with 1, and names the stage that each is in."""

import dataclasses
import json
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import encoders.audio
import encoders.nn.layers
import encoders.projectors
import encoders.runner
import encoders.vision
import omni
import omni.decoder.layer
import omni.decoder.model
import omni.generation.programs
import omni.prompt.inputs
import omni.prompt.layout
import omni.prompt.template
import omni.prompt.tokenizer
import processors.audio
import processors.decode.video.frame_arrays
import processors.image
import processors.mel
import processors.video
from encoders.nn.compile import Program
from omni.cli import main
from omni.decoder.moe import SparseMoeBlock
from omni.tools.verify import check as verify
from omni.tools.verify.cases import Case, conversations, video, waveform


def user(*content):
    return [{"role": "user", "content": list(content)}]


def short_cases():
    """A few default cases, and a video that is short enough for a small program."""
    chosen = [case for case in conversations() if case.name in ("text", "control", "image", "audios")]
    heard = {"type": "video", "video": video(5, 48, 80), "fps": 2.0, "num_frames": 2}
    heard["audio"] = omni.Audio(waveform(0.9, 16_000, 9), 16_000)
    return [*chosen, Case("video", user(heard, "What do you hear?"), frozenset({"video", "audio"}))]


@pytest.fixture(scope="module")
def records(tiny_checkpoint, tmp_path_factory):
    """What the checkpoint gives without a fault, by the names of the cases."""
    made = {}
    for names in {names for names, _ in FAULTS.values()}:
        made[names] = tmp_path_factory.mktemp("records") / "golden"
        with asked(names):
            assert run("verify", tiny_checkpoint, "--record", made[names]) == 0
    return made


@contextmanager
def asked(names):
    """These cases are the default ones."""
    with pytest.MonkeyPatch.context() as patch:
        cases = [case for case in short_cases() if case.name in names.split()]
        patch.setattr(verify, "default_cases", lambda *_, **__: cases)
        yield


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


def in_bfloat16(x):
    """Rounded so; the compiler takes two conversions for none."""
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def fresh_towers(patch):
    """Has the towers compiled anew: what was compiled before a fault was planted does not have it."""
    applied = encoders.runner._applied
    patch.setattr(encoders.runner, "_apply", Program(lambda *a: applied(*a), static_argnums=0))


def fresh_decoder(patch):
    """Likewise the decoder."""
    read, score, step = (getattr(omni.generation.programs, name) for name in ("read", "score_hidden", "read_one"))
    prefill = Program(lambda *a: read(*a), static_argnums=(0, 7), donate_argnums=(2,))
    patch.setattr(omni.generation.programs, "prefill", prefill)
    patch.setattr(omni.generation.programs, "score", Program(lambda *a: score(*a), static_argnums=0))
    patch.setattr(omni.generation.programs, "step", Program(lambda *a: step(*a), static_argnums=0, donate_argnums=(2,)))


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


def a_frame_later(patch):
    wrapped(
        patch, processors.decode.video.frame_arrays, "spread", lambda ranks, total, *_: np.minimum(ranks + 1, total - 1)
    )


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
    fresh_towers(patch)
    patch.setitem(encoders.nn.layers._ACTIVATIONS, "gelu_pytorch_tanh", lambda x: jax.nn.gelu(x, approximate=False))


def vision_rope_theta(patch):
    fresh_towers(patch)
    replaced(patch, encoders.vision, "axial_rotation", lambda turn, at, width, theta: turn(at, width, 10 * theta))


def vision_positions_in_bfloat16(patch):
    fresh_towers(patch)
    replaced(
        patch,
        encoders.vision.PositionTable,
        "__call__",
        lambda read, *a: in_bfloat16(read(*a)),
    )


def audio_convolution_gelu(patch):
    fresh_towers(patch)
    patch.setattr(encoders.audio, "activation", lambda _: jax.nn.gelu)


def audio_projector_gelu(patch):
    fresh_towers(patch)
    call = lambda self, x: self.proj2(jax.nn.gelu(self.proj1(x)))  # noqa: E731
    patch.setattr(encoders.projectors.AudioProjector, "__call__", call)


def deepstack_level_missing(patch):
    fresh_towers(patch)
    replaced(
        patch,
        encoders.projectors.VisionProjector,
        "__call__",
        lambda call, *a: (seen := call(*a))._replace(deepstack=seen.deepstack.at[-1].set(0)),
    )


def template_space(patch):
    original = omni.prompt.template.ChatTemplate.from_directory.__func__

    def read(cls, *a, **k):
        source = original(cls, *a, **k).source
        assert "<|im_start|>assistant\\n" in source
        return cls(source.replace("<|im_start|>assistant\\n", "<|im_start|>assistant \\n"))

    patch.setattr(omni.prompt.template.ChatTemplate, "from_directory", classmethod(read))


def users_text_as_control_tokens(patch):
    replaced(
        patch,
        omni.prompt.tokenizer.Tokenizer,
        "encode_prompt",
        lambda encode, self, text, mark, *rest: encode(self, text.replace(mark, ""), mark, *rest),
    )


def audio_before_frames(patch):
    replaced(patch, omni.prompt.layout, "_merge", lambda merge, first, second: ~merge(second, first))


def position_off_by_one(patch):
    wrapped(patch, omni.prompt.layout._Writer, "_grid_positions", lambda positions, *_: positions + np.float32(1))


def next_position_off_by_one(patch):
    wrapped(
        patch,
        omni.prompt.layout._Writer,
        "finish",
        lambda out, *_: dataclasses.replace(out, next_position=out.next_position + 1),
    )


def table_in_bfloat16(patch):
    fresh_decoder(patch)
    replaced(
        patch,
        omni.decoder.model.Embedding,
        "__call__",
        lambda read, *a: in_bfloat16(read(*a)),
    )


def media_rows_misplaced(patch):
    replaced(
        patch,
        omni.prompt.inputs.Inputs,
        "to_prompt",
        lambda make, self: dataclasses.replace(
            (prompt := make(self)),
            overlays=tuple(dataclasses.replace(o, indices=o.indices - np.int32(1)) for o in prompt.overlays),
        ),
    )


def rope_theta(patch):
    fresh_decoder(patch)
    replaced(
        patch,
        omni.decoder.model,
        "rotation",
        lambda turn, at, width, theta, section: turn(at, width, 1.01 * theta, section),
    )


def norm_epsilon(patch):
    fresh_decoder(patch)
    replaced(
        patch,
        omni.decoder.layer,
        "RMSNorm",
        lambda norm, width, eps, **k: norm(width, 1e-5, **k),
    )


def experts_not_normalised(patch):
    fresh_decoder(patch)
    build = SparseMoeBlock.__init__

    def built(self, *a, **k):
        build(self, *a, **k)
        self.normalise = False

    patch.setattr(SparseMoeBlock, "__init__", built)


def deepstack_a_layer_late(patch):
    fresh_decoder(patch)

    def add(original, x, media, block, i):
        if media is not None and media.levels is not None:
            media = media._replace(levels=jnp.roll(media.levels, 1, axis=0))
        return original(x, media, block, i)

    replaced(patch, omni.decoder.model, "_add_level", add)


def scores_in_bfloat16(patch):
    fresh_decoder(patch)
    replaced(
        patch,
        omni.decoder.model.TextDecoder,
        "logits",
        lambda score, self, hidden: score(self, in_bfloat16(hidden)),
    )


def cached_steps_elsewhere(patch):
    read = omni.generation.programs.read_one
    step = Program(
        lambda graph, state, cache, tokens, positions, counts: read(
            graph, state, cache, tokens, positions + 40, counts
        ),
        static_argnums=(0,),
    )
    patch.setattr(omni.generation.programs, "step", step)


# Each with the cases that are asked, and its stage.
FAULTS = {
    channels_swapped: ("image", "pixels"),
    patches_row_by_row: ("image", "pixels"),
    a_frame_later: ("video", "pixels"),
    clock_by_first_frames: ("video", "clock"),
    mel_floor: ("audios", "mel"),
    mel_hop: ("audios", "mel"),
    vision_gelu: ("image", "vision"),
    vision_rope_theta: ("image", "vision"),
    vision_positions_in_bfloat16: ("image", "vision"),
    audio_convolution_gelu: ("audios", "audio"),
    audio_projector_gelu: ("audios", "audio"),
    deepstack_level_missing: ("image", "deepstack"),
    template_space: ("text", "prompt"),
    users_text_as_control_tokens: ("control", "prompt_ids"),
    audio_before_frames: ("video", "token_ids"),
    position_off_by_one: ("image", "positions"),
    next_position_off_by_one: ("image", "positions"),
    table_in_bfloat16: ("image", "embedded"),
    media_rows_misplaced: ("image", "embedded"),
    rope_theta: ("image", "hidden"),
    norm_epsilon: ("image", "hidden"),
    experts_not_normalised: ("image", "hidden"),
    deepstack_a_layer_late: ("image", "hidden"),
    scores_in_bfloat16: ("image", "logits"),
    cached_steps_elsewhere: ("text", "greedy"),
}


@pytest.fixture
def fresh_modules():
    """Has modules built anew: those that were built before a fault was planted do not have it."""
    omni.loading._abstract.cache_clear()
    yield
    omni.loading._abstract.cache_clear()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_seen_and_its_stage_is_named(
    records, monkeypatch, tiny_checkpoint, tmp_path, capsys, fault, fresh_modules
):
    names, stage = FAULTS[fault]
    fault(monkeypatch)
    with asked(names):
        assert run("verify", tiny_checkpoint, "--against", records[names], "--json", tmp_path / "out.json") == 1
    assert f"the first stage that differs: {stage}, in" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["first"] == stage


@pytest.mark.parametrize("names", ["image", "video"])
def test_without_a_fault_nothing_differs(records, monkeypatch, tiny_checkpoint, capsys, names):
    fresh_towers(monkeypatch)
    with asked(names):
        assert run("verify", tiny_checkpoint, "--against", records[names]) == 0
    assert "1 cases, every stage within its tolerance" in capsys.readouterr().out
