"""A process that loads a model and gives its first result: what `benchmarks.stages.start` starts and watches.

    python -m benchmarks.first {ours,reference} {image,reply,audio,transcript} FOLDER

Prints a line of JSON with the result as soon as it is there, and a second one with the seconds of loading and of the
same work done again, and the most memory that was held.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

QUESTION = "Describe the image."
SHOWN = 64  # values of an embedding that are compared


def ours(kind: str, folder: Path) -> Callable[[], Any]:
    """Load with ours; return the work."""
    import warnings

    import omni
    from benchmarks.stages.mel import RATE, waveform

    warnings.simplefilter("ignore")
    if kind in ("image", "reply"):
        parts = ("vision",) if kind == "image" else ("vision", "text")
        model, path = omni.load(folder, parts=parts), folder / "image.png"
        if kind == "image":
            return lambda: model.encode(omni.Image(path)).tokens
        content = [{"type": "image", "image": str(path)}, {"type": "text", "text": QUESTION}]
        messages = [{"role": "user", "content": content}]
        return lambda: model.generate(messages, max_new_tokens=1, temperature=0).token_ids
    samples = waveform(10)
    if kind == "audio":
        model = omni.load(folder, parts=("audio",))
        return lambda: model.encode(omni.Audio(samples, RATE)).tokens
    model = omni.load(folder)
    # Tokens are not told; which come out is compared by the stage of transcription.
    return lambda: [len(model.transcribe(omni.Audio(samples, RATE), "English", max_new_tokens=1).pieces)]


def reference(kind: str, folder: Path) -> Callable[[], Any]:
    """Load with the reference; return the work."""
    torch: Any = import_module("torch")
    lib: Any = import_module("transformers")
    torch.set_grad_enabled(False)
    dtype = getattr(torch, json.loads((folder / "config.json").read_text()).get("dtype", "float32"))
    processor = lib.AutoProcessor.from_pretrained(folder)
    if kind in ("image", "reply"):
        from PIL import Image

        model = lib.AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        path = folder / "image.png"

        def see() -> Any:
            image = processor.image_processor(images=[Image.open(path)], return_tensors="pt")
            pixels, grid = image["pixel_values"].to(dtype), image["image_grid_thw"]
            return model.model.get_image_features(pixels, grid).pooler_output

        def answer() -> Any:
            content = [{"type": "image", "path": str(path)}, {"type": "text", "text": QUESTION}]
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            )
            inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
            return model.generate(**inputs, max_new_tokens=1, do_sample=False)[0, -1:]

        return see if kind == "image" else answer

    from benchmarks.stages.mel import waveform

    model, samples = lib.Qwen3ASRForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval(), waveform(10)

    def hear() -> Any:
        inputs = processor.apply_transcription_request(samples)
        features = inputs["input_features"].to(dtype)
        return model.get_audio_features(features, inputs["input_features_mask"]).pooler_output

    def write() -> Any:
        inputs = processor.apply_transcription_request(samples, language="English")
        inputs["input_features"] = inputs["input_features"].to(dtype)
        return [len(model.generate(**inputs, max_new_tokens=1, do_sample=False))]

    return hear if kind == "audio" else write


def _shown(found: Any) -> list[float]:
    """A few numbers of a result."""
    if hasattr(found, "float"):
        found = found.float().numpy()
    if isinstance(found, list | tuple) and hasattr(found[0], "float"):
        found = found[0].float().numpy()
    return np.asarray(found, np.float64).reshape(-1)[:SHOWN].tolist()


def main() -> None:
    """Load, work, say so, and work again."""
    from benchmarks.machine import peak

    side, kind, folder = sys.argv[1:]
    # What is imported is part of the start, and not of loading.
    _ = import_module("omni").load if side == "ours" else import_module("transformers").AutoProcessor
    start = time.perf_counter()
    work = {"ours": ours, "reference": reference}[side](kind, Path(folder))
    loaded = time.perf_counter() - start
    print(json.dumps(_shown(work())), flush=True)
    start = time.perf_counter()
    work()
    print(json.dumps({"loading": loaded, "again": time.perf_counter() - start, "peak": peak()}), flush=True)


if __name__ == "__main__":
    main()
