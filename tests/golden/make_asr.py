"""Makes data/asr.npz and data/asr.json: what transformers gives for the checkpoints of asr.py.

    python -m tests.golden.make_asr

Needs the `reference` extra. Every clip goes through the reference alone; float32, on the CPU.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, Qwen3ASRForConditionalGeneration
from transformers.models.qwen3_asr.processing_qwen3_asr import LANGUAGE_CODE_TO_NAME, _parse_single_output

from tests.golden.asr import CLIPS, NAMINGS, in_naming, write_checkpoint
from tests.golden.media import audio

DATA = Path(__file__).parent / "data"
STEPS = 12
KEPT = 4  # last positions of each prompt
EVERY = 25  # rows kept of a long clip's mel and tokens
PROMPTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "forced": {"language": "German"},
    "context": {"prompt": "Dashwood, Elinor"},
    "both": {"language": "en", "prompt": "Dashwood, Elinor"},
}
REPLIES = (
    "language English<asr_text>Two of a kind.",
    " language Chinese<asr_text> 你好。\n",
    "language None<asr_text>",
    "language English\nrest<asr_text>said",
    "no marker at all",
    "",
    "language English<asr_text>" + "a" * 30 + " and on",
    "language English<asr_text>so " + "no, " * 40 + "end",
    "language English<asr_text>" + "ha" * 19 + " short of it",
)


def load(directory: Path, attention: str) -> Any:
    model, report = Qwen3ASRForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation=attention, output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


def thinned(rows: np.ndarray) -> np.ndarray:
    return rows if len(rows) <= 130 else rows[::EVERY]


def main() -> None:
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = write_checkpoint(Path(folder), "hf")
        processor = AutoProcessor.from_pretrained(directory)
        model, eager = load(directory, "sdpa"), load(directory, "eager")
    # The reference reads one naming; the other must be the same weights under other names.
    first, second = (in_naming(naming) for naming in NAMINGS)
    assert {value.tobytes() for value in first.values()} == {value.tobytes() for value in second.values()}
    record: dict[str, Any] = {"greedy": {}, "margins": {}, "prompts": {}, "token_ids": {}}
    for clip in CLIPS:
        for kind, options in PROMPTS.items() if clip == "short" else [("plain", {})]:
            inputs = processor.apply_transcription_request(audio(clip), **options)
            frames = int(inputs["input_features_mask"].sum())
            with torch.no_grad():
                tokens, check = (
                    m.get_audio_features(inputs["input_features"], inputs["input_features_mask"]).pooler_output
                    for m in (model, eager)
                )
                logits, again = (m(**inputs).logits[0].numpy() for m in (model, eager))
                said = model.generate(
                    **inputs, max_new_tokens=STEPS, do_sample=False, eos_token_id=None, pad_token_id=0
                )
            assert (tokens - check).norm() / tokens.norm() < 2e-6
            assert np.linalg.norm(logits - again) / np.linalg.norm(logits) < 5e-6
            name = f"{clip}/{kind}"
            ids = inputs["input_ids"][0].numpy()
            greedy = said[0, len(ids) :].tolist()
            record["greedy"][name] = greedy
            record["token_ids"][name] = ids.tolist()
            top = np.sort(logits[-KEPT:], axis=-1)
            record["margins"][name] = float((top[:, -1] - top[:, -2]).min())
            record["prompts"][name] = processor.apply_transcription_request(audio(clip), tokenize=False, **options)[0]
            found[f"{name}/logits"] = logits[-KEPT:]
            if kind == "plain":
                mel = inputs["input_features"][0, :, :frames].numpy()
                assert frames == max(len(audio(clip)), 8000) // 160, frames
                found[f"{clip}/frames"] = np.int32(frames)
                found[f"{clip}/mel"] = thinned(mel.T).T
                found[f"{clip}/tokens"] = thinned(tokens.numpy())
            print(f"{name}: {frames} frames, {len(tokens)} tokens, logits of deviation {logits.std():.2f}")
    record["languages"] = LANGUAGE_CODE_TO_NAME
    record["replies"] = [{"raw": raw} | _parse_single_output(raw) for raw in REPLIES]
    np.savez_compressed(DATA / "asr.npz", **found)
    (DATA / "asr.json").write_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
