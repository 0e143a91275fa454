"""Programs take of a device what the plan says, and a plan with compiled programs says what they hold."""

import jax
import numpy as np
import pytest

import omni
from omni.checkpoint.plan import PlannedMesh, cache_bytes, gib, weight_bytes
from omni.tools.compiled_plan import compiled, temporary_bytes
from omni.tools.plan import plan

ONE = PlannedMesh.of("tensor=1")


def test_compiled_programs_take_weights_and_cache_as_planned(model):
    shapes = {
        path: jax.ShapeDtypeStruct(shape, np.float32)
        for path, shape in model._origin.shapes.items()
        if path.startswith("text.")
    }
    planned = weight_bytes(shapes, lambda path: 4, ONE) + cache_bytes(model.config.text, 2, 64, np.float32, ONE)
    for program in compiled(model.config, ONE, np.dtype("float32"), 64, 2):
        # Beside them there are ids, positions and lengths of two rows.
        assert planned <= program.memory_analysis().argument_size_in_bytes < planned + 32_768


def test_activations_of_compiled_programs_are_in_the_table(model, tiny_checkpoint):
    found = temporary_bytes(model.config, ONE, np.dtype("float32"), 64, 2)
    said = plan(tiny_checkpoint, "tensor=1", dtype="float32", context=64, batch=2, compiled=True)
    assert found > 0 and gib(found) in said and "XLA's programs" in said


def test_programs_for_more_devices_than_there_are_are_refused(tiny_checkpoint):
    with pytest.raises(omni.InputError) as caught:
        plan(tiny_checkpoint, "tensor=64", compiled=True)
    assert caught.value.code == "bad_mesh" and "JAX_NUM_CPU_DEVICES=64" in str(caught.value)
