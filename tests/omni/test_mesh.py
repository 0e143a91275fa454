"""A model on a mesh answers as on one device, and each device holds what was planned."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import omni
from encoders.nn.mesh import partition, roles
from omni.checkpoint import plan
from omni.checkpoint.plan import PlannedMesh, cache_bytes, undivided, weight_bytes
from omni.checkpoint.safetensors import OpenFile, open_file
from omni.checkpoint.sharding import partition_spec
from omni.tools.plan import plan as planned
from tests.golden import asr, text_families, tiny, vl
from tests.golden.load import relative_error
from tests.quick_compile import QUICK_COMPILE_FLAGS

ROOT = Path(__file__).parents[2]
EIGHT = f"{QUICK_COMPILE_FLAGS} --xla_force_host_platform_device_count=8"


def start(directory: Path, out: Path, *options: str, devices: str = EIGHT) -> subprocess.Popen:
    program = [sys.executable, "-m", "tests.omni.mesh_answers", str(directory), str(out), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(program, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def answers(process: subprocess.Popen, out: Path) -> dict[str, np.ndarray]:
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors.decode()[-3000:]
    return dict(np.load(out))


def assert_same(found: dict[str, np.ndarray], alone: str, mesh: str) -> None:
    """Numbers within 1e-5, and the same tokens."""
    names = [name.removeprefix(f"{alone}/") for name in found if name.startswith(f"{alone}/")]
    assert len(names) > 4
    assert relative_error(found[f"{alone}/trained"], found[f"{alone}/logits"]) > 2e-4
    for name in names:
        one, other = found[f"{alone}/{name}"], found[f"{mesh}/{name}"]
        if name == "replies":
            assert one.tolist() == other.tolist()
        elif name not in ("read", "held", "cut"):
            assert relative_error(other, one) < 1e-5, name


def write(directory: Path, name: str) -> Path:
    if name == "omni":
        return tiny.write_checkpoint(directory)
    if name == "asr":
        return asr.write_checkpoint(directory, "published")
    return (vl if name in vl.NAMES else text_families).write_checkpoint(directory, name)


@pytest.mark.parametrize(
    ("name", "meshes"),
    [
        ("omni", ["data=2,expert=2,tensor=2"]),
        ("qwen3_next", ["fsdp=2,tensor=2,data=2"]),
        ("qwen3", ["data=2,tensor=2", "fsdp=8"]),
        ("qwen3_moe", ["expert=8", "fsdp=4,expert=2"]),
        ("qwen3_5_text", ["tensor=2,data=4"]),
        ("qwen3_5_moe_text", ["data=2,expert=4"]),
        ("vl_moe", ["data=2,expert=2,tensor=2"]),
        ("asr", ["data=4,tensor=2"]),
    ],
)
def test_a_mesh_changes_no_number(tmp_path, name, meshes):
    process = start(write(tmp_path / name, name), tmp_path / "found.npz", "--mesh", "", *meshes)
    found = answers(process, tmp_path / "found.npz")
    for mesh in meshes:
        assert_same(found, "", mesh)
        # A mesh of experts alone cuts their two stacks and nothing else.
        assert found[f"{mesh}/cut"] > (1 if mesh == "expert=8" else 5)
        # All devices are this process's, which reads each byte once.
        assert found[f"{mesh}/read"] == found[f"{mesh}/held"] == found["/held"]


def test_two_processes_answer_as_one(tmp_path):
    """Each reads its half of what is cut, and what is not."""
    directory, mesh = write(tmp_path / "model", "omni"), "tensor=2"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    one_device = EIGHT.replace("=8", "=1")
    outs = [tmp_path / f"{i}.npz" for i in (0, 1)]
    pair = [
        start(directory, out, "--mesh", mesh, "--process", str(i), "--address", address, devices=one_device)
        for i, out in enumerate(outs)
    ]
    alone = answers(start(directory, tmp_path / "alone.npz", devices=one_device), tmp_path / "alone.npz")
    for process, out in zip(pair, outs, strict=True):
        found = answers(process, out)
        assert_same(alone | found, "", mesh)
        assert found[f"{mesh}/read"] == found[f"{mesh}/held"] < 0.7 * alone["/read"]


def test_rules_cut_what_divides_evenly():
    mesh = PlannedMesh.of("data=2,fsdp=2,expert=4,tensor=2")
    assert partition_spec("text.layers.self_attn.q_proj.weight", (3, 128, 64), mesh) == PartitionSpec(
        None, "tensor", "fsdp"
    )
    assert partition_spec("text.layers.self_attn.o_proj.weight", (3, 64, 128), mesh) == PartitionSpec(
        None, "fsdp", "tensor"
    )
    experts = partition_spec("text.layers.mlp.experts.gate_up_proj", (3, 8, 96, 64), mesh)
    assert experts == PartitionSpec(None, ("expert", "tensor"), None, "fsdp")
    # Four experts leave nothing for the second axis, six nothing for the first.
    assert partition((4, 6), ("experts", None), mesh) == PartitionSpec("expert", None)
    assert partition((6,), ("experts",), mesh) == PartitionSpec("tensor")
    assert partition((7, 9), ("batch", "heads"), mesh) == PartitionSpec(None, None)
    assert partition_spec("text.norm.weight", (64,), mesh) == PartitionSpec(None)
    odd = {"text.embed_tokens.weight": jax.ShapeDtypeStruct((511, 64), np.float32)}
    assert undivided(odd, PlannedMesh.of("tensor=2")) == ["text.embed_tokens.weight"]
    assert undivided(odd, PlannedMesh.of("data=2")) == []


def test_a_mesh_is_taken_by_the_names_of_its_axes():
    assert roles(PlannedMesh.of("4x2")) == {"data": "data", "tensor": "tensor"}
    assert roles(PlannedMesh.of("data=2,model=4")) == {"data": "data", "tensor": "model"}
    # As before there were names: the last axis cuts.
    assert roles(PlannedMesh.of("x=2,y=4")) == {"tensor": "y"}
    assert roles(PlannedMesh.of("x=2,fsdp=4")) == {"fsdp": "fsdp"}
    for text in ("", "4x", "0x2", "data", "data=2,data=2", "1x1x1x1", "data=-1"):
        with pytest.raises(omni.InputError) as error:
            PlannedMesh.of(text)
        assert error.value.code == "bad_mesh"


def test_a_region_of_a_tensor_is_read_and_no_more(tmp_path):
    values = np.random.RandomState(0).standard_normal((5, 12, 40)).astype(np.float32)
    wide = np.random.RandomState(1).standard_normal((6, 4096)).astype(np.float32)
    tiny.write_safetensors(tmp_path / "a.safetensors", {"values": values, "wide": wide, "one": wide[0, :1]})
    stored = open_file(tmp_path / "a.safetensors")
    read = []
    into = OpenFile.read_into
    for name, whole in (("values", values), ("wide", wide), ("one", wide[0, :1])):
        tensor = stored[name]
        for part in np.random.RandomState(2).randint(0, 1 << 30, (40, whole.ndim, 2)):
            ends = np.sort(part % np.asarray(whole.shape)[:, None], axis=1)
            region = tuple(slice(int(first), int(last) + 1) for first, last in ends)
            out = np.empty([s.stop - s.start for s in region], np.float32)
            read.clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(OpenFile, "read_into", lambda self, o, at: (read.append(len(o)), into(self, o, at)))
                tensor.read(region, out)
            np.testing.assert_array_equal(out, whole[region])
            # Runs of a page and more come alone.
            if name == "wide" and out.shape[1] >= 1024:
                assert sum(read) == out.nbytes
            assert sum(read) <= whole.nbytes


def test_what_cannot_fit_is_refused_before_a_weight_is_read(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(OpenFile, "read_into", lambda *_: pytest.fail("a weight was read"))
    monkeypatch.setattr(plan, "host_bytes", lambda: 1 << 18)
    with pytest.raises(omni.CheckpointError, match=r"MiB of this machine, which has 0\.2 MiB") as error:
        omni.load(tiny_checkpoint)
    assert error.value.code == "too_large"


def test_a_plan_says_what_a_loaded_model_takes(model, tiny_checkpoint):
    leaves = {path: leaf for path, leaf in model._origin.shapes.items()}
    shapes = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in leaves.items()}
    held = sum(math.prod(shape) * 4 for shape in leaves.values())
    assert weight_bytes(shapes, lambda path: 4, None) == held
    mesh = PlannedMesh.of("data=2,expert=2,tensor=2")
    each = weight_bytes(shapes, lambda path: 4, mesh)
    assert held / 8 < each < 0.6 * held
    text = model.config.text
    assert cache_bytes(text, 4, 64, np.float32, mesh) < 0.6 * cache_bytes(text, 4, 64, np.float32, None)
    said = planned(tiny_checkpoint, "data=2,expert=2,tensor=2", dtype="float32", context=64, batch=4)
    assert plan.gib(each) in said and "TPU v5e" in said and "an estimate" in said
    assert "held whole" not in said
    eight = planned(tiny_checkpoint, "tensor=8")
    assert "attention and its cache (2 key heads)" in eight
    assert "none of the chips" in planned(tiny_checkpoint, "2", context=10**9, batch=64)
