"""Makes data/quantized.npz: quantised weights, and what the reference makes of them.

    python -m tests.golden.make_quantized AUTOAWQ GPTQMODEL

Needs the `reference` extra, accelerate, ml_dtypes, compressed-tensors 0.20, and the unpacked sources of AutoAWQ 0.2.9
and GPTQModel 7.7, of which the functions that unpack are run by themselves: neither is imported, as both want more than
a CPU. On the CPU.

- FP8: transformers' `Fp8Dequantize`. It takes blocks to be of equal size, and refuses or misreads a matrix that they
  do not divide; `fp8_uneven_blocks` is what `FP8Linear` multiplies by: blocks as in config.json, the last cut off.
- compressed-tensors: the `decompress` of its compressors.
- AWQ: `dequantize_gemm` of AutoAWQ.
- GPTQ: `convert_gptq_v1_to_v2_format_module` and `dequantize_weight` of GPTQModel.

The logits of whole checkpoints are in float32: FP8 and compressed-tensors as transformers loads them; for AWQ and GPTQ
a plain model gets the weights that the functions above make of float32 scales.
"""

import ast
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from tests.golden.quantized import CASES, CHECKPOINTS, is_quantised, pack, weight, write_quantized
from tests.golden.text_families import CONFIGS, tensors, token_ids, write_checkpoint

DATA = Path(__file__).parent / "data"
LENGTH, KEPT, STEPS = 65, 4, 8


def functions(path: Path, *wanted: str, **names: Any) -> dict[str, Any]:
    """Some functions of a source file, methods too, in a module of their own with these names."""
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in wanted]
    for node in found:
        node.decorator_list, node.returns = [], None
        for argument in node.args.args:
            argument.annotation = None
    constants = [node for node in tree.body if isinstance(node, ast.Assign) and "AWQ_" in ast.unparse(node.targets[0])]
    module = ast.Module([*constants, *found], [])
    exec(compile(ast.fix_missing_locations(module), str(path), "exec"), names)
    return names


def tensor(array: np.ndarray) -> torch.Tensor:
    views = {"bfloat16": (np.uint16, torch.bfloat16), "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn)}
    if array.dtype.name not in views:
        return torch.from_numpy(array.copy())
    view, dtype = views[array.dtype.name]
    return torch.from_numpy(array.view(view).copy()).view(dtype)


class Reference:
    """The weight that packed tensors stand for, in the dtype of their scales."""

    def __init__(self, autoawq: Path, gptqmodel: Path):
        self._awq = functions(
            autoawq / "awq/utils/packing_utils.py", "unpack_awq", "reverse_awq_order", "dequantize_gemm", torch=torch
        )
        self._gptq = functions(
            gptqmodel / "gptqmodel/nn_modules/qlinear/__init__.py",
            "dequantize_weight",
            "_dequantize_from_codes",
            t=torch,
            _torch_right_shift=torch.bitwise_right_shift,
        )
        self._gptq |= functions(
            gptqmodel / "gptqmodel/utils/model.py",
            "convert_gptq_v1_to_v2_format_module",
            BaseQuantLinear=SimpleNamespace,
            log=SimpleNamespace(info=SimpleNamespace(once=lambda _: None)),
            torch=torch,
        )

    def __call__(self, config: dict[str, Any], parts: dict[str, np.ndarray]) -> torch.Tensor:
        held = {ending: tensor(array) for ending, array in parts.items()}
        match config["quant_method"]:
            case "fp8":
                return self._fp8(config, held)
            case "compressed-tensors":
                return self._compressed(config, held)
            case "awq":
                size = config["group_size"] if config["group_size"] > 0 else held[".qweight"].shape[0]
                arguments = held[".qweight"], held[".qzeros"], held[".scales"], 4, size
                return self._awq["dequantize_gemm"](*arguments).T
            case _:
                return self._dequantize_gptq(config, held).T

    def _fp8(self, config: dict[str, Any], held: dict[str, torch.Tensor]) -> torch.Tensor:
        codes, scales = held[""], held["_scale_inv"]
        block = config["weight_block_size"]
        if block and any(size % step for size, step in zip(codes.shape[-2:], block, strict=True)):
            spread = scales.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
            return codes.float() * spread[: codes.shape[0], : codes.shape[1]]
        return Fp8Dequantize(None)._dequantize_one(codes, scales)

    def _compressed(self, config: dict[str, Any], held: dict[str, torch.Tensor]) -> torch.Tensor:
        from compressed_tensors.compressors.base import BaseCompressor
        from compressed_tensors.quantization import QuantizationScheme

        scheme = QuantizationScheme(**config["config_groups"]["group_0"])
        compressor = BaseCompressor.get_value_from_registry(config["format"])
        state = {ending.removeprefix("."): value for ending, value in held.items()}
        return compressor.decompress(state, scheme)["weight"]

    def _dequantize_gptq(self, config: dict[str, Any], held: dict[str, torch.Tensor]) -> torch.Tensor:
        bits = config["bits"]
        shifts = torch.arange(0, 32, bits, dtype=torch.int32)[None]
        module = SimpleNamespace(
            planar=False,
            bits=bits,
            pack_factor=32 // bits,
            maxq=2**bits - 1,
            dequant_dtype=torch.int16 if bits == 8 else torch.int8,
            in_features=held[".g_idx"].shape[0],
            wf_unsqueeze_zero=shifts.unsqueeze(0),
            wf_unsqueeze_neg_one=shifts.unsqueeze(-1),
            _init_wf_unsqueeze_buffers=lambda: None,
            qzero_format=lambda **_: None,
            **{ending.removeprefix("."): value for ending, value in held.items()},
        )
        if config["checkpoint_format"] == "gptq":
            self._gptq["convert_gptq_v1_to_v2_format_module"](module, bits, torch.int32)
        module._dequantize_from_codes = lambda *rest, **more: self._gptq["_dequantize_from_codes"](
            module, *rest, **more
        )
        return self._gptq["dequantize_weight"](module)


def load(name: str, folder: Path, reference: Reference) -> torch.nn.Module:
    """The reference's model of a quantised checkpoint."""
    config, family = CHECKPOINTS[name]
    options = {
        "fp8": lambda: FineGrainedFP8Config(
            weight_block_size=tuple(config["weight_block_size"]),
            modules_to_not_convert=config["modules_to_not_convert"],
            dequantize=True,
        ),
        "compressed-tensors": lambda: CompressedTensorsConfig(dequantize=True),
    }.get(config["quant_method"])
    if options is not None:
        directory = write_quantized(folder / name, name)
        return AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, quantization_config=options(), device_map="cpu"
        )
    model = AutoModelForCausalLM.from_pretrained(write_checkpoint(folder / name, family), dtype=torch.float32)
    # Into the files of a plain checkpoint, which the reference then reads as it reads those.
    from safetensors.torch import save_file

    values = {}
    for key, value in tensors(CONFIGS[family]):
        if not is_quantised(key):
            values[key] = torch.from_numpy(value)
            continue
        parts = pack(config, value, "float16")
        parts[".scales"] = parts[".scales"].astype(np.float32)
        values[key] = reference(config, parts).float().contiguous()
    save_file(values, folder / name / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32)
    return model


def main(autoawq: str, gptqmodel: str) -> None:
    reference = Reference(Path(autoawq), Path(gptqmodel))
    found: dict[str, np.ndarray] = {}
    for name, (config, shape, scales) in CASES.items():
        parts = pack(config, weight(name, shape), scales)
        whole = reference(config, parts)
        error = (whole.float() - torch.from_numpy(weight(name, shape))).norm() / whole.float().norm()
        print(f"{name}: {whole.dtype}, {float(error):.4f} off")
        assert whole.shape == shape and error < 0.2
        for ending, array in {**parts, "expected": whole}.items():
            if isinstance(array, torch.Tensor):
                array = array.contiguous()
                array = array.view(torch.int16).numpy() if array.dtype == torch.bfloat16 else array.numpy()
            found[f"{name}/{ending}"] = array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
        found[f"{name}/dtype"] = np.array(str(whole.dtype).removeprefix("torch."))
    ids = torch.from_numpy(token_ids(LENGTH))[None]
    for name in CHECKPOINTS:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            model = load(name, Path(folder), reference).eval()
            logits = model(ids).logits[0].numpy()
            said = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=STEPS,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        found[f"{name}/logits"] = logits[-KEPT:]
        found[f"{name}/greedy"] = said[0, LENGTH:].numpy().astype(np.int32)
        top = np.sort(logits[-1])
        print(f"{name}: {found[f'{name}/greedy'].tolist()}, margin {top[-1] - top[-2]:.3f}")
    np.savez_compressed(DATA / "quantized.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
