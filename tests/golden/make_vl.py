"""Makes data/vl.npz and data/vl.json: what transformers 5.23 gives for the checkpoints and conversations of vl.py.

    python -m tests.golden.make_vl

Needs the `reference` extra. float32, on the CPU. Clips are resized frame by frame with Pillow, as in make_golden.py.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen3VLProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize
from transformers.video_utils import VideoMetadata

from tests.golden.media import image, video
from tests.golden.vl import CONVERSATIONS, EMBEDDED, NAMES, write_checkpoint

DATA = Path(__file__).parent / "data"
STEPS = 12


def resized(frames: np.ndarray, processor: Qwen3VLVideoProcessor) -> np.ndarray:
    """A clip at the reference's size, by Pillow."""
    low, high = processor.size["shortest_edge"], processor.size["longest_edge"]
    sides = smart_resize(*frames.shape[:3], factor=32, min_pixels=low, max_pixels=high)
    return np.stack([np.asarray(Image.fromarray(f).resize(sides[::-1], Image.Resampling.BICUBIC)) for f in frames])


def inputs_of(processor: Qwen3VLProcessor, messages: list[dict[str, Any]]) -> tuple[str, Any]:
    """The prompt, and everything that the model takes."""
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    parts = [part for m in messages if not isinstance(m["content"], str) for part in m["content"]]
    clips = [video(part["video"]) for part in parts if part["type"] == "video"]
    films = [resized(frames, processor.video_processor) for frames, _ in clips]
    times = [
        VideoMetadata(total_num_frames=len(frames), fps=fps, frames_indices=list(range(len(frames))))
        for frames, fps in clips
    ]
    how = {"video_metadata": times, "do_sample_frames": False, "do_resize": False}
    return prompt, processor(
        text=prompt,
        images=[image(part["image"]) for part in parts if part["type"] == "image"] or None,
        videos=films or None,
        videos_kwargs=how if films else {},
        return_tensors="pt",
    )


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((a - b).norm() / b.norm())


def make(name: str, directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    def load(attention: str) -> Any:
        model, report = AutoModelForImageTextToText.from_pretrained(
            directory, dtype=torch.float32, attn_implementation=attention, output_loading_info=True
        )
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
        return model.eval()

    model, eager = load("sdpa"), load("eager")
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessorPil.from_pretrained(directory),
        AutoTokenizer.from_pretrained(directory),
        Qwen3VLVideoProcessor.from_pretrained(directory),
        chat_template=json.loads((directory / "chat_template.json").read_text("utf-8"))["chat_template"],
    )
    records: dict[str, Any] = {}
    found: dict[str, np.ndarray] = {}
    for case, messages in CONVERSATIONS.items():
        prompt, given = inputs_of(processor, messages)
        grids = [given.get(f"{kind}_grid_thw") for kind in ("image", "video")]
        positions, _ = model.model.get_rope_index(
            given["input_ids"], given["mm_token_type_ids"], *grids, given["attention_mask"]
        )
        with torch.no_grad():
            logits, check = (m(**given, use_cache=False).logits[0] for m in (model, eager))
            said = model.generate(**given, max_new_tokens=STEPS, do_sample=False, eos_token_id=None, pad_token_id=0)
        assert far(logits, check) < 5e-6, (case, far(logits, check))
        count = given["input_ids"].shape[1]
        at = np.unique(np.r_[np.arange(0, count, max(9, count // 7)), np.arange(max(count - 4, 0), count)])
        top = logits[at].topk(2).values
        margin = float((top[:, 0] - top[:, 1]).min())
        print(f"  {case}: {count} tokens, logits std {logits.std():.2f}, smallest margin {margin:.4f}")
        records[case] = {
            "prompt": prompt,
            "token_ids": given["input_ids"][0].tolist(),
            "next_position": int(positions.max()) + 1,
            "greedy": said[0, count:].tolist(),
        }
        found[f"{case}/position_ids"] = positions[:, 0].numpy().astype(np.int32)
        found[f"{case}/logits_at"], found[f"{case}/logits"] = at.astype(np.int32), logits[at].numpy()
        with torch.no_grad():
            for kind, see in (("image", model.model.get_image_features), ("video", model.model.get_video_features)):
                pixels = given.get("pixel_values" if kind == "image" else "pixel_values_videos")
                if pixels is None or case not in ("images", "videos"):
                    continue
                grid = given[f"{kind}_grid_thw"]
                seen = see(pixels, grid)
                found[f"{case}/grid_thw"] = grid.numpy().astype(np.int32)
                found[f"{case}/tokens"] = torch.cat(list(seen.pooler_output)).numpy()
                if not hasattr(seen, "deepstack_features"):
                    continue
                found[f"{case}/deepstack"] = torch.stack([torch.cat(list(level)) for level in seen.deepstack_features])[
                    :, ::4
                ].numpy()
    for case, messages in EMBEDDED.items():
        # The recipe of Qwen3-VL-Embedding: the last token's hidden state after the final norm, made of length 1.
        _, given = inputs_of(processor, messages)
        with torch.no_grad():
            hidden = model.model(**given, use_cache=False).last_hidden_state[0, -1]
        found[f"{case}/embedded"] = torch.nn.functional.normalize(hidden, p=2, dim=-1).numpy()
    return records, {f"{name}/{key}": value for key, value in found.items()}


def main() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    records: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name in NAMES:
        print(name)
        with tempfile.TemporaryDirectory() as folder:
            records[name], found = make(name, write_checkpoint(Path(folder), name))
        arrays |= found
    np.savez_compressed(DATA / "vl.npz", **arrays)
    lines = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f"{json.dumps(case)}: {json.dumps(record)}" for case, record in cases.items())
        + "\n}"
        for name, cases in records.items()
    ]
    (DATA / "vl.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(f"{(DATA / 'vl.npz').stat().st_size / 1e6:.2f} MB, {(DATA / 'vl.json').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
