"""Saves the small checkpoints with `Model.save`, loads them with transformers, and compares weights and logits.

    python -m tests.golden.check_saving

Needs the `reference` extra. float32 and bfloat16, in one file and in shards, on the CPU; logits in float32 throughout,
as in bfloat16 rounding may choose another of two experts that are nearly tied.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Qwen3ASRForConditionalGeneration,
    Qwen3OmniMoeForConditionalGeneration,
    Qwen3OmniMoeThinkerForConditionalGeneration,
)

import omni
from tests.golden import asr, text_families, tiny, vl
from tests.golden.load import relative_error

LIMIT = 1e-5


def load(kind: Any, directory: Path) -> Any:
    """A model of the reference in the files' own dtype, nothing missing and nothing unexpected."""
    model, report = kind.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def checkpoints(folder: Path) -> Iterator[tuple[str, Path, list[Any]]]:
    """Directories as published, and the classes of the reference that read what is saved of them."""
    whole = [Qwen3OmniMoeThinkerForConditionalGeneration, Qwen3OmniMoeForConditionalGeneration]
    yield "omni", tiny.write_checkpoint(folder / "omni"), whole
    yield "thinker alone", tiny.write_checkpoint(folder / "alone", prefix=""), whole[:1]
    for name in text_families.CONFIGS:
        yield name, text_families.write_checkpoint(folder / name, name), [AutoModelForCausalLM]
    # Of the two namings the reference reads this one; tests/omni/test_asr.py holds that both are saved as they were.
    yield "asr", asr.write_checkpoint(folder / "asr", "hf"), [Qwen3ASRForConditionalGeneration]
    for name in vl.NAMES:
        yield name, vl.write_checkpoint(folder / name, name), [AutoModelForImageTextToText]
    turned = vl.write_checkpoint(folder / "turned", "vl_moe", turned=True)
    yield "vl_moe, experts turned", turned, [AutoModelForImageTextToText]


def main() -> None:
    ids = text_families.token_ids(200)
    with tempfile.TemporaryDirectory() as folder:
        for name, source, kinds in checkpoints(Path(folder)):
            for dtype, size in (("float32", "5GB"), ("float32", "300KB"), ("bfloat16", "300KB")):
                saved = Path(folder) / "saved"
                omni.load(source, dtype=dtype).save(saved, max_shard_size=size, overwrite=True)
                ours = omni.load(saved, dtype="float32").logits(ids.tolist())
                original = kinds[0].from_pretrained(source, dtype=dtype).state_dict()
                for kind in kinds:
                    reference = load(kind, saved)
                    thinker = getattr(reference, "thinker", reference)
                    found = thinker.state_dict()
                    assert thinker.dtype == thinker.config.dtype == getattr(torch, dtype)
                    assert found.keys() == original.keys()
                    assert all(torch.equal(found[key], original[key]) for key in found)
                    with torch.no_grad():
                        theirs = thinker.float()(torch.from_numpy(ids)[None]).logits[0].numpy()
                    error = relative_error(ours, theirs)
                    print(f"{name}, {dtype}, {size}, {kind.__name__}: weights equal, logits {error:.1e}")
                    assert error < LIMIT, error


if __name__ == "__main__":
    main()
