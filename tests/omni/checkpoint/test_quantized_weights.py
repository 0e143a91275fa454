"""Weights as quantisers publish them: the numbers that the reference makes of them, and refusals of what is no such."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import omni
from omni.checkpoint.quantized import METHODS, PackedTensor
from omni.checkpoint.safetensors import PACKED, open_file
from tests.golden.load import DATA
from tests.golden.quantized import CASES, FLOAT8, awq, compressed_tensors, fp8, gptq, pack, weight, write_tensors

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def expected():
    return np.load(DATA / "quantized.npz")


def stem(config):
    return "x.weight" if config["quant_method"] == "fp8" else "x"


def opened(tmp_path, config, parts) -> PackedTensor:
    """The one weight of a file that holds these tensors, as a method of these settings reads it."""
    path = tmp_path / "model.safetensors"
    write_tensors(path, {stem(config) + ending: array for ending, array in parts.items()})
    found = METHODS[config["quant_method"]](config).pack(open_file(path, PACKED), BFLOAT16)
    assert list(found) == ["x.weight"]
    tensor = found["x.weight"]
    assert isinstance(tensor, PackedTensor) and tensor.name == "x.weight" and tensor.dtype == BFLOAT16
    return tensor


def whole(tensor: PackedTensor, dtype: Any = np.float32) -> np.ndarray:
    array = np.full(tensor.shape, np.nan, dtype)
    tensor.fill(array)
    return array


def stored(expected, name) -> dict[str, np.ndarray]:
    """The tensors of a case as they lie in the golden file."""
    found = {}
    for key in expected.files:
        case, ending = key.split("/", 1)
        if case == name and ending not in ("expected", "dtype"):
            kind = {1: FLOAT8, 2: BFLOAT16}.get(expected[key].itemsize) if expected[key].dtype.kind == "u" else None
            found[ending] = expected[key] if kind is None else expected[key].view(kind)
    return found


@pytest.mark.parametrize("name", CASES)
def test_weights_are_the_reference_s_to_the_bit(name, expected, tmp_path):
    config, shape, _ = CASES[name]
    tensor = opened(tmp_path, config, stored(expected, name))
    wanted = expected[f"{name}/expected"]
    if (dtype := str(expected[f"{name}/dtype"])) == "bfloat16":
        wanted = wanted.view(BFLOAT16)
    assert tensor.shape == shape == wanted.shape and wanted.dtype.name == dtype
    # In float32 every product is exact or rounded once, so the reference's rounding is that of the last step.
    np.testing.assert_array_equal(whole(tensor).astype(wanted.dtype), wanted)
    np.testing.assert_array_equal(tensor.array, whole(tensor).astype(BFLOAT16))
    assert tensor.not_finite() == []


@pytest.mark.parametrize("name", CASES)
def test_integers_with_a_scale_a_row(name, tmp_path):
    config, shape, scales = CASES[name]
    tensor = opened(tmp_path, config, pack(config, weight(name, shape), scales))
    found = tensor.rows_of_integers()
    # Of 8 bits the asymmetric ones do not fit, and floats are no integers.
    assert (found is not None) == (name in KEPT), name
    if found is not None:
        values, rows = found
        assert values.dtype == np.int8 and rows.dtype == np.float32
        np.testing.assert_array_equal(values * rows[:, None], whole(tensor))


KEPT = {
    "ct_int8_rows",
    "ct_int8_tensor",
    "ct_int4_rows",
    "ct_int4_rows_asymmetric",
    "awq_groups_of_128",
    "awq_groups_of_-1",
    "gptq_int8_rows",
}


def test_what_is_read_a_few_rows_at_a_time_is_whole(monkeypatch, tmp_path):
    for name, (config, shape, scales) in CASES.items():
        tensor = opened(tmp_path, config, pack(config, weight(name, shape), scales))
        at_once, turned = whole(tensor), np.empty((*shape[:-2], shape[-1], shape[-2]), np.float32)
        with monkeypatch.context() as patch:
            patch.setattr("omni.checkpoint.quantized.packed._AT_ONCE", 1)
            np.testing.assert_array_equal(whole(tensor), at_once)
            tensor.fill(turned.swapaxes(-1, -2))
        np.testing.assert_array_equal(turned.swapaxes(-1, -2), at_once)


def refused(tmp_path, config, parts, code="bad_quantisation") -> str:
    with pytest.raises(omni.CheckpointError) as error:
        opened(tmp_path, config, parts)
    assert error.value.code == code and len(str(error.value)) <= 500
    return str(error.value)


def broken(name, **changes):
    """A case with tensors changed, or left out where the change is None."""
    config, shape, scales = CASES[name]
    parts = pack(config, weight(name, shape), scales)
    for ending, change in changes.items():
        ending = f"_{ending}" if config["quant_method"] == "fp8" and ending else f".{ending}"
        if change is None:
            del parts[ending]
        else:
            parts[ending] = change(parts[ending])
    return config, parts


def cut(array):
    return array[:-1]


MISFITS = {
    "scales absent, fp8": broken("fp8_blocks", scale_inv=None),
    "scales cut, fp8": broken("fp8_blocks", scale_inv=cut),
    "scales of integers, fp8": broken("fp8_blocks", scale_inv=lambda array: array.astype(np.int32)),
    "one scale for many blocks, fp8": broken("fp8_blocks", scale_inv=lambda array: array[:1, :1]),
    "scales absent, int8": broken("ct_int8_rows", weight_scale=None),
    "scales cut, int8": broken("ct_int8_rows", weight_scale=cut),
    "a scale too few across": broken("ct_int4_groups_of_32", weight_scale=lambda array: array[:, :-1]),
    "words cut": broken("ct_int4_groups_of_32", weight_packed=lambda array: array[:, :-1]),
    "no shape": broken("ct_int4_groups_of_32", weight_shape=None),
    "another shape": broken("ct_int4_groups_of_32", weight_shape=lambda array: array + 8),
    "a shape below 0": broken("ct_int4_groups_of_32", weight_shape=lambda array: -array),
    "zero points cut": broken("ct_int4_groups_of_128_asymmetric", weight_zero_point=lambda array: array[:-1]),
    "scales absent, awq": broken("awq_groups_of_32", scales=None),
    "scales cut, awq": broken("awq_groups_of_32", scales=cut),
    "zero points absent, awq": broken("awq_groups_of_32", qzeros=None),
    "words cut, awq": broken("awq_groups_of_32", qweight=cut),
    "words of 8 bits, awq": broken("awq_groups_of_32", qweight=lambda array: array.astype(np.int8)),
    "scales absent, gptq": broken("gptq_int4_groups_of_32", scales=None),
    "scales flat, gptq": broken("gptq_int4_groups_of_32", scales=lambda array: array.reshape(-1)),
    "zero points cut, gptq": broken("gptq_int4_groups_of_32", qzeros=lambda array: array[:, :-1]),
    "an order cut, gptq": broken("gptq_int4_by_weight", g_idx=cut),
    "other bits than config.json has": (gptq(8, 32), broken("gptq_int4_groups_of_32")[1]),
    "other groups than config.json has": (awq(64), broken("awq_groups_of_32")[1]),
    "other blocks than config.json has": (fp8(32, 32), broken("fp8_blocks")[1]),
    "another form than config.json has": (
        compressed_tensors("int-quantized"),
        broken("ct_int4_groups_of_32")[1],
    ),
    "nothing packed": (fp8(16, 32), {"": np.zeros((4, 4), np.float32)}),
}


@pytest.mark.parametrize("name", MISFITS)
def test_tensors_that_do_not_fit_are_refused(name, tmp_path):
    message = refused(tmp_path, *MISFITS[name])
    assert "x" in message and "do not fit" in message


@pytest.mark.parametrize("place", [-1, 1 << 20])
def test_columns_of_groups_that_are_not_there(place, tmp_path):
    config, parts = broken("gptq_int4_by_weight", g_idx=lambda array: np.where(array == 0, place, array).astype("i4"))
    with pytest.raises(omni.CheckpointError, match="g_idx") as error:
        whole(opened(tmp_path, config, parts))
    assert error.value.code == "bad_quantisation"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_scales_that_are_no_numbers_to_compute_with(bad, tmp_path):
    def spoil(array):
        array = array.astype(np.float32)
        array.reshape(-1)[-1] = bad
        return array

    for name, ending in (
        ("fp8_blocks", "scale_inv"),
        ("fp8_experts", "scale_inv"),
        ("ct_int8_rows", "weight_scale"),
        ("ct_int4_groups_of_32", "weight_scale"),
        ("awq_groups_of_32", "scales"),
        ("gptq_int4_groups_of_32", "scales"),
    ):
        tensor = opened(tmp_path, *broken(name, **{ending: spoil}))
        assert tensor.not_finite() == [tensor.scales.name], name


@pytest.mark.parametrize("byte", [0x7F, 0xFF])
def test_floats_of_8_bits_that_are_nan(byte, tmp_path):
    config, parts = broken("ct_fp8_rows")
    parts[".weight"].view(np.uint8)[3, 5] = byte
    assert opened(tmp_path, config, parts).not_finite() == ["x.weight"]


def test_columns_ordered_by_what_they_weigh_in_compressed_tensors(tmp_path):
    """As llm-compressor wrote them until it wrote the order into the weights; -1 throughout is no order."""
    config, parts = broken("ct_int4_groups_of_32")
    plain = whole(opened(tmp_path, config, parts))
    order = np.random.RandomState(0).permutation(np.repeat(np.arange(3, dtype=np.int32), 32))
    found = whole(opened(tmp_path, config, {**parts, ".weight_g_idx": order}))
    scales = parts[".weight_scale"].astype(np.float32)
    codes = np.rint(plain / np.repeat(scales, 32, axis=1))
    np.testing.assert_array_equal(found, codes * scales[:, order])
    unused = {**parts, ".weight_g_idx": np.full_like(order, -1)}
    np.testing.assert_array_equal(whole(opened(tmp_path, config, unused)), plain)


def test_several_schemes_of_compressed_tensors(tmp_path):
    mixed = compressed_tensors("mixed-precision")
    names = ("ct_int8_rows", "ct_int4_groups_of_32", "ct_fp8_blocks")
    mixed["config_groups"] = {
        name: {**CASES[name][0]["config_groups"]["group_0"], "format": CASES[name][0]["format"]} for name in names
    }
    for name in names:
        config, parts = broken(name)
        alone = whole(opened(tmp_path, config, parts))
        np.testing.assert_array_equal(whole(opened(tmp_path, mixed, parts)), alone)


def test_scales_by_other_names_and_as_powers_of_two(tmp_path):
    config, parts = broken("fp8_blocks")
    exponents = np.rint(np.log2(parts["_scale_inv"]))
    powers = np.exp2(exponents).astype(np.float32)
    wanted = whole(opened(tmp_path, config, {"": parts[""], "_scale_inv": powers}))
    for ending in ("_scale_inv", "_scales_inv", "_scale"):
        scales = powers.astype(ml_dtypes.float8_e8m0fnu)
        np.testing.assert_array_equal(whole(opened(tmp_path, config, {"": parts[""], ending: scales})), wanted)


def test_scales_of_activations_and_caches_are_passed_over(tmp_path):
    for name in ("fp8_tensor", "ct_int8_rows"):
        config, parts = broken(name)
        wanted, path = whole(opened(tmp_path, config, parts)), tmp_path / "model.safetensors"
        values = {stem(config) + ending: array for ending, array in parts.items()}
        extra = ("x.input_scale", "x.activation_scale", "x.input_zero_point", "self_attn.k_scale", "self_attn.v_scale")
        write_tensors(path, values | {key: np.ones(1, np.int8 if "zero" in key else np.float32) for key in extra})
        found = METHODS[config["quant_method"]](config).pack(open_file(path, PACKED), BFLOAT16)
        assert list(found) == ["x.weight"]
        np.testing.assert_array_equal(found["x.weight"].array, wanted.astype(BFLOAT16))


def test_strategies_that_compressed_tensors_leaves_unsaid(tmp_path):
    for name in ("ct_int8_tensor", "ct_int4_groups_of_32", "ct_int4_rows"):
        config, parts = broken(name)
        unsaid = json.loads(json.dumps(config))
        weights = unsaid["config_groups"]["group_0"]["weights"]
        weights["group_size"] = -1 if weights.pop("strategy") == "channel" else weights["group_size"]
        np.testing.assert_array_equal(whole(opened(tmp_path, unsaid, parts)), whole(opened(tmp_path, config, parts)))


def test_bits_and_groups_of_single_modules_in_gptq(tmp_path):
    for name in ("gptq_int8_groups_of_64", "gptq_int4_by_weight"):
        config, parts = broken(name)
        other = gptq(12 - config["bits"], 16, dynamic={"+:.*": {"bits": config["bits"]}})
        np.testing.assert_array_equal(
            whole(opened(tmp_path, other, parts)), whole(opened(tmp_path, config, parts)), err_msg=name
        )
