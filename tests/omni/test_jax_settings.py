"""JAX stays as the user has set it, a mesh as the user has made it, and neither changes a number."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.golden.load import relative_error
from tests.quick_compile import QUICK_COMPILE_FLAGS

ROOT = Path(__file__).parents[2]
# Every setting of JAX, as far as it can be compared.
SETTINGS = """
def settings():
    return {name: repr(value) for name, value in jax.config.values.items()}
"""


def run(code: str, *arguments: object, without: tuple[str, ...] = (), **environment: str) -> dict:
    """What a Python program prints as JSON."""
    env = {name: value for name, value in os.environ.items() if name not in without} | environment
    env |= {"PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", "import json, sys, jax\n" + SETTINGS + textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(program, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


CACHE = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_ENABLE_COMPILATION_CACHE")


def test_what_the_user_has_set_stays(tiny_checkpoint, tmp_path):
    """By `jax.config` and by the environment, one program for both."""
    code = """
        import os
        jax.config.update("jax_compilation_cache_dir", sys.argv[2])
        jax.config.update("jax_default_matmul_precision", "highest")
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_numpy_dtype_promotion", "strict")
        jax.config.update("jax_numpy_rank_promotion", "raise")
        import omni
        from tests.golden import media
        before, environment = settings(), dict(os.environ)
        model = omni.load(sys.argv[1])
        dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(model.media.vision.weights)}
        logits = model.logits([1, 2, 3])
        vector = model.encode(media.image("small")).tokens
        after = settings()
        # An edit in the user's 64 bits.
        weight = model.parts.text.norm.weight
        weight.set_value(weight.get_value().astype("float64") * 3)
        edited = model.logits([1, 2, 3])
        model.save(sys.argv[3])
        again = omni.load(sys.argv[3]).logits([1, 2, 3])
        print(json.dumps({
            "edited": [bool((edited == again).all()), bool((edited != logits).any())],
            "changed": [name for name in before if before[name] != after[name]],
            "environment": environment == dict(os.environ),
            "dtypes": sorted(dtypes), "kept": len(os.listdir(sys.argv[2])) > 0,
            "logits": logits.tolist(), "vector": vector.tolist(),
        }))
    """
    kept, saved = tmp_path / "kept", tmp_path / "saved"
    kept.mkdir()
    found = run(code, tiny_checkpoint, kept, saved, without=CACHE, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.05")
    assert found["changed"] == [] and found["environment"]
    assert found["dtypes"] == ["float32"] and found["kept"] and found["edited"] == [True, True]
    import omni
    from tests.golden import media

    model = omni.load(tiny_checkpoint)
    assert relative_error(np.asarray(found["logits"], np.float32), model.logits([1, 2, 3])) < 1e-5
    assert relative_error(np.asarray(found["vector"], np.float32), model.encode(media.image("small")).tokens) < 1e-5


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, {"jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"}),
        ({"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1.0"}, {"jax_compilation_cache_dir"}),
        ({"JAX_COMPILATION_CACHE_DIR": ""}, set()),
        ({"JAX_ENABLE_COMPILATION_CACHE": "0"}, set()),
    ],
    ids=["nothing", "how long programs take that are kept", "no place", "none to be kept"],
)
def test_programs_are_kept_where_the_user_has_said_nothing(tmp_path, environment, wanted):
    code = """
        from omni.loading import enable_compilation_cache
        before = settings()
        enable_compilation_cache()
        enable_compilation_cache()
        after = settings()
        print(json.dumps({name: after[name] for name in before if before[name] != after[name]}))
    """
    changed = run(code, without=CACHE, **environment, XDG_CACHE_HOME=str(tmp_path))
    assert changed.keys() == wanted
    assert changed.get("jax_compilation_cache_dir") in (None, repr(str(tmp_path / "omni-jax" / "compiled")))


def test_the_users_mesh(tiny_checkpoint, tmp_path):
    """Weights lie on the very mesh, and every call works within it, beside it and without it, to the same numbers."""
    code = """
        import numpy as np
        import omni
        from tests.golden import media
        from flax import nnx
        mesh = jax.make_mesh((1, 4), ("data", "model"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
        ask = [{"role": "user", "content": "Hi"}]

        def answers(model):
            embedding = model.encode(media.image("small"))
            reply = model.generate(ask, max_new_tokens=4, temperature=0)
            assert list(model.stream(ask, max_new_tokens=4, temperature=0))
            audio = model.encode(omni.Audio(media.audio("short"), media.RATE)).tokens
            return [embedding.tokens, audio, model.logits([1, 2, 3]), model.embed("text"), np.asarray(reply.token_ids)]

        def leaves(model):
            return jax.tree.leaves(nnx.state(model.parts))

        found = {"within": [], "meshes": [], "cut": []}
        alone = omni.load(sys.argv[1])
        found["alone"] = answers(alone)
        with jax.set_mesh(mesh):
            found["without a mesh of its own"] = answers(omni.load(sys.argv[1]))
            found["loaded without"] = answers(alone)
            model = omni.load(sys.argv[1], mesh=mesh)
            found["loaded within"] = answers(model)
            stream = model.stream(ask, max_new_tokens=4, temperature=0)
            for _ in stream:
                found["within"].append(jax.sharding.get_mesh() == mesh)
            # The user's own program, on the user's own mesh.
            weight = model.parts.text.norm.weight.get_value()
            doubled = jax.jit(lambda w: w * 2)(weight)
            assert doubled.sharding.mesh.axis_types == mesh.axis_types
            model.parts.text.norm.weight.set_value(doubled)
            found["edited within"] = answers(model)
            model.save(sys.argv[2])
            found["within"].append(jax.sharding.get_mesh() == mesh)
        found["used without"] = answers(model)
        found["saved"] = answers(omni.load(sys.argv[2]))
        found["meshes"] = all(leaf.sharding.mesh == mesh for leaf in leaves(model))
        found["axes"] = all(leaf.sharding.mesh.axis_types == mesh.axis_types for leaf in leaves(model))
        found["cut"] = sum(not leaf.is_fully_replicated for leaf in leaves(model))
        found["context"] = jax.sharding.get_mesh().empty
        print(json.dumps(found, default=lambda value: np.asarray(value).tolist()))
    """
    flags = f"--xla_force_host_platform_device_count=4 {QUICK_COMPILE_FLAGS}"
    found = run(code, tiny_checkpoint, tmp_path / "saved", XLA_FLAGS=flags)
    assert found["meshes"] and found["axes"] and found["context"] and found["cut"] > 20
    assert len(found["within"]) > 1 and all(found["within"])
    for one, other in [
        ("alone", "without a mesh of its own"),
        ("alone", "loaded without"),
        ("alone", "loaded within"),
        ("edited within", "used without"),
        ("edited within", "saved"),
    ]:
        for left, right in zip(found[one], found[other], strict=True):
            assert relative_error(np.asarray(left, np.float32), np.asarray(right, np.float32)) < 1e-5, (one, other)
    assert relative_error(np.asarray(found["edited within"][2]), np.asarray(found["alone"][2])) > 0.1
