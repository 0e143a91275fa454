"""Speech to text with Qwen3-ASR-0.6B's shape: how many times faster than the audio lasts."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.mel import RATE, waveform
from benchmarks.stages.stage import Call, Stage
from benchmarks.stages.start import prepare_asr


def _ours(seconds: int, tokens: int, folder: Path) -> Call:
    import warnings

    import omni

    model = omni.load(folder)
    samples = waveform(seconds)
    warnings.simplefilter("ignore")  # random weights never end by themselves

    def run(round: int) -> Any:
        # Others in every round, so that nothing that was encoded before is found again.
        sound = omni.Audio(samples * np.float32(1 - 0.01 * round), RATE)
        return model.transcribe(sound, "English", max_new_tokens=tokens)

    return Call(run, lambda found: np.asarray([len(found.pieces)]))


def _reference(seconds: int, tokens: int, folder: Path) -> Call:
    torch: Any = import_module("torch")
    lib: Any = import_module("transformers")
    torch.set_grad_enabled(False)
    processor = lib.AutoProcessor.from_pretrained(folder)
    model = lib.Qwen3ASRForConditionalGeneration.from_pretrained(folder, dtype="auto").eval()
    samples = waveform(seconds)

    def run(round: int) -> Any:
        sound = samples * np.float32(1 - 0.01 * round)
        inputs = processor.apply_transcription_request(sound, language="English")
        inputs["input_features"] = inputs["input_features"].to(model.dtype)
        found = model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        processor.batch_decode(found)
        return found

    return Call(run, lambda found: np.asarray([len(found)]))


def stages(quick: bool) -> list[Stage]:
    """One length, with as many tokens as speech of it would take."""
    seconds, tokens = (2, 4) if quick else (30, 100)
    dtype = "float32" if quick else "bfloat16"
    return [
        Stage(
            f"transcription, {seconds} s, {tokens} tokens, {dtype}",
            "transcription",
            dtype,
            {"ours": partial(_ours, seconds, tokens), "reference": partial(_reference, seconds, tokens)},
            "asr",
            partial(prepare_asr, quick),
            items=seconds,
            unit="seconds of audio",
            rounds=(1, 1) if quick else (2, 5),
            note="Qwen3-ASR-0.6B's shape; seconds of audio a second are the real-time factor",
        )
    ]
