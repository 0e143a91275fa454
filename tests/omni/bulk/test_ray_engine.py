"""What the engine hands to Ray Data and takes back, with rows that go through its actors' classes in this process.

test_ray.py does the same on a real cluster.
"""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import omni
from omni.bulk import ray_engine
from omni.bulk.ray_data import RayEngine
from omni.errors import CheckpointError


class RayError(Exception):
    """As Ray wraps what an actor raised."""

    def __init__(self, cause: Exception | None = None):
        super().__init__("Traceback\n\nthe worker died")
        self.cause = cause


class Rows:
    """A data set of Ray: blocks, and what is done to each row."""

    def __init__(self, blocks: Any, steps: tuple[Any, ...] = (), ending: Any = None):
        self.blocks, self.steps, self.ending = blocks, steps, ending
        self.context = SimpleNamespace(enable_progress_bars=True, execution_options=SimpleNamespace())

    def map(self, step: type, *, fn_constructor_args: tuple[Any, ...], compute: Any, **resources: Any) -> "Rows":
        assert self.context.execution_options.preserve_order
        more = Rows(self.blocks, (*self.steps, step(*fn_constructor_args)), self.ending)
        more.context = self.context
        return more

    def iter_rows(self) -> Any:
        for number, row in enumerate(row for block in self.blocks for row in block.to_pylist()):
            if self.ending is not None and number == 1:
                if self.ending == "lost":
                    continue
                raise self.ending
            for step in self.steps:
                row = step(row)
            yield row


@pytest.fixture
def ray(monkeypatch):
    """What stands for Ray; `ending` is what happens to the second batch."""
    monkeypatch.setenv("NPROC", "2")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    fake = SimpleNamespace(cluster={"CPU": 8.0}, assigned={"CPU": 1.0}, ending=None, live=0)

    def begin(**options: Any) -> None:
        if options["address"] == "nowhere":
            raise ConnectionError("nobody answers")
        fake.live += 1

    fake.init, fake.shutdown = begin, lambda: setattr(fake, "live", fake.live - 1)
    fake.is_initialized = lambda: False
    fake.cluster_resources = lambda: fake.cluster
    fake.get_runtime_context = lambda: SimpleNamespace(get_assigned_resources=lambda: fake.assigned)
    fake.exceptions = SimpleNamespace(RayError=RayError)
    fake.data = SimpleNamespace(
        from_arrow=lambda blocks: Rows(blocks, ending=fake.ending), ActorPoolStrategy=lambda **options: options
    )
    monkeypatch.setattr(ray_engine, "import_ray", lambda: fake)
    return fake


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(7):
        Image.new("RGB", (40, 40), (30 * i, 0, 99)).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


OPTIONS: Any = {"format": "parquet", "batch_size": 2, "part_rows": 4, "workers": 1}


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


@pytest.mark.parametrize("tokens", [False, True])
def test_a_job_has_the_same_bytes(ray, pictures, tmp_path, tokens):
    there = omni.encode_files(pictures, tmp_path / "ray", engine="ray", tokens=tokens, **OPTIONS)
    here = omni.encode_files(pictures, tmp_path / "local", tokens=tokens, **OPTIONS)
    assert (there.items, there.encoded, there.failures) == (here.items, here.encoded, here.failures) and ray.live == 0
    assert here.encoded == 6 and parts(tmp_path / "ray") == parts(tmp_path / "local")


def test_files_keep_everything(ray, pictures, tmp_path):
    omni.encode_files(pictures / "0.png", tmp_path, engine="ray")
    found, wanted = omni.Embedding.load(tmp_path / "0.png.safetensors"), omni.load("demo").encode(pictures / "0.png")
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    assert found.deepstack is not None and wanted.deepstack is not None
    np.testing.assert_array_equal(found.deepstack, wanted.deepstack)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (RayError(), "ray_failed"),
        (RayError(CheckpointError("no weights", code="file_missing")), "file_missing"),
        ("lost", "ray_failed"),
    ],
    ids=["a worker", "a checkpoint", "a batch"],
)
def test_a_job_that_ends_goes_on_without_ray(ray, pictures, tmp_path, ending, code):
    ray.ending = ending
    with pytest.raises((omni.InputError, CheckpointError)) as error:
        omni.encode_files(pictures, tmp_path / "out", engine="ray", **OPTIONS)
    assert error.value.code == code and ray.live == 0 and not parts(tmp_path / "out")
    assert omni.encode_files(pictures, tmp_path / "out", **OPTIONS).encoded == 6


def test_what_the_cluster_must_have(ray, pictures, tmp_path):
    for engine, code in (
        (RayEngine("nowhere"), "ray_unreachable"),
        (RayEngine(encoders=8), "ray_too_small"),
        (RayEngine(gpus=0.5), "ray_too_small"),
        (RayEngine(resources={"TPU": 4}), "ray_too_small"),
    ):
        with pytest.raises(omni.InputError) as error:
            omni.encode_files(pictures, tmp_path, engine=engine, **OPTIONS)
        assert error.value.code == code
    plan = ray_engine._plan(RayEngine(gpus=0.5), {"CPU": 20, "GPU": 4}, None)
    assert plan == (8, {"num_cpus": 1, "num_gpus": 0.5}, 12)
    assert ray_engine._plan(RayEngine(encoders=2, cpus=0), {"CPU": 4}, 9) == (2, {"num_cpus": 0}, 4)


def test_an_actor_takes_its_share(ray, monkeypatch):
    monkeypatch.delenv("NPROC")
    ray.assigned = {"CPU": 3.0, "GPU": 0.25}
    ray_engine.claim_share()
    shares = {name: os.environ.pop(name) for name in ("NPROC", "XLA_PYTHON_CLIENT_MEM_FRACTION")}
    assert shares == {"NPROC": "3", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.188"}


def test_a_machine_with_another_checkpoint_is_told():
    from omni.bulk.recipe import Recipe

    with pytest.raises(omni.InputError) as error:
        Recipe("demo", pooling="mean", fingerprint="of another").load()
    assert error.value.code == "other_model"
