"""Makes data/layout.npz: random token layouts, expanded and given positions by the reference.

    python -m tests.golden.make_layout [CASES]

Needs torch and transformers. No weights and no media: prompts of random ids, grids, clocks and lengths go through the
reference's `get_rope_index` and its processor's functions that write placeholders.
"""

import sys
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as modeling
from transformers.models.qwen3_omni_moe import processing_qwen3_omni_moe as processing

# As in test_layout.py.
IMAGE, VIDEO, AUDIO, VISION_START, VISION_END, AUDIO_START, AUDIO_END = range(100, 107)
RATE, MERGE = 13.0, 2
# At 6.5 and 13 frames a second float32 and float64 times differ where a frame and a sound token meet.
RATES = (0.5, 1.0, 2.0, 3.0, 6.5, 7.0, 10.0, 12.5, 13.0, 24.0, 24000 / 1001, 25.0, 30000 / 1001, 30.0, 50.0, 60.0)


class Reference:
    """The two functions that matter, on as little of the model as they read."""

    def __init__(self) -> None:
        names = dict(
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            audio_token_id=AUDIO,
            vision_start_token_id=VISION_START,
            audio_start_token_id=AUDIO_START,
            position_id_per_seconds=RATE,
            audio_config=SimpleNamespace(n_window=50),
        )
        self.model = SimpleNamespace(spatial_merge_size=MERGE, config=SimpleNamespace(**names))
        base = modeling.Qwen3OmniMoePreTrainedModelForConditionalGeneration
        self.model.get_llm_pos_ids_for_vision = MethodType(base.get_llm_pos_ids_for_vision, self.model)
        self.get_rope_index = MethodType(base.get_rope_index, self.model)
        letters = SimpleNamespace(audio_bos_token="b", audio_eos_token="e", video_token="v", audio_token="a")
        letters.video_processor = SimpleNamespace(merge_size=MERGE)
        self.interleave = MethodType(processing.Qwen3OmniMoeProcessor.replace_video_with_audio_token, letters)

    def heard_video(self, grid: list[int], seconds: float, audio_tokens: int) -> list[int]:
        text = self.interleave(
            {"video_grid_thw": torch.tensor([grid]), "video_second_per_grid": [seconds]},
            0,
            {"num_audio_tokens": [audio_tokens]},
            0,
            position_id_per_seconds=RATE,
        )
        return [{"b": AUDIO_START, "e": AUDIO_END, "v": VIDEO, "a": AUDIO}[letter] for letter in text]


def draw(random: np.random.RandomState) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Stretches of text, and the media between them."""
    heard = random.rand() < 0.5
    media = []
    for _ in range(random.randint(0, 5)):
        kind = str(random.choice(["image", "audio", "video", "video"]))
        medium: dict[str, Any] = {"kind": kind}
        if kind != "audio":
            t = 1 if kind == "image" else random.randint(1, 9)
            side = 40 if random.rand() < 0.1 else 6
            medium["grid"] = [int(t), *(2 * int(n) for n in random.randint(1, side // 2 + 1, 2))]
        if kind == "video":
            medium["seconds"] = 2 / RATES[random.randint(len(RATES))]
        if kind == "audio" or (kind == "video" and heard):
            seconds = medium.get("seconds", 1.0) * (medium["grid"][0] if kind == "video" else 3)
            medium["frames"] = int(random.randint(1, max(2, int(min(seconds, 20) * 130))))
        media.append(medium)
    lengths = random.choice([0, 0, 1, 2, 3, 5, 12], len(media) + 1)
    if not media:
        lengths += 1
    return [random.randint(0, 100, n).tolist() for n in lengths], media


def make(reference: Reference, texts: list[list[int]], media: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    prompt, ids = list(texts[0]), list(texts[0])
    count = modeling._get_feat_extract_output_lengths
    rows = []
    for medium, text in zip(media, texts[1:], strict=True):
        kind, grid = medium["kind"], medium.get("grid")
        sound = int(count(torch.tensor(medium["frames"]))) if "frames" in medium else -1
        token = {"image": IMAGE, "video": VIDEO, "audio": AUDIO}[kind]
        start, end = (AUDIO_START, AUDIO_END) if kind == "audio" else (VISION_START, VISION_END)
        tokens = sound if kind == "audio" else int(np.prod(grid)) // MERGE**2
        prompt += [start, token, end, *text]
        if kind == "video" and sound >= 0:
            ids += [start, *reference.heard_video(grid, medium["seconds"], sound), end, *text]
        else:
            ids += [start, *[token] * tokens, end, *text]
        rows.append([token, tokens, *(grid or [0, 0, 0]), sound if kind == "video" else -1])

    def found(key: str, *kinds: str) -> list[Any]:
        return [m[key] for m in media if m["kind"] in kinds and key in m]

    def tensor(values: list[Any]) -> torch.Tensor | None:
        return torch.tensor(values) if values else None

    positions, _ = reference.get_rope_index(
        torch.tensor([ids]),
        tensor(found("grid", "image")),
        tensor(found("grid", "video")),
        torch.ones(1, len(ids), dtype=torch.long),
        bool(found("frames", "video")),
        tensor(found("frames", "audio", "video")),
        tensor(found("seconds", "video")),
    )
    return {
        "prompt": np.asarray(prompt, np.int32),
        "media": np.asarray(rows, np.int32).reshape(-1, 6),
        "seconds": np.asarray([m.get("seconds", np.nan) for m in media], np.float64),
        "token_ids": np.asarray(ids, np.int32),
        "position_ids": positions[:, 0].numpy().astype(np.float32),
        "next_position": np.asarray([float(positions.max() + 1)], np.float32),
    }


def main(cases: int) -> None:
    reference, random = Reference(), np.random.RandomState(0)
    made = [make(reference, *draw(random)) for _ in range(cases)]
    arrays = {}
    for name in made[0]:
        # Cases lie one after another, cut at `*_ends`.
        axis = 1 if name == "position_ids" else 0
        arrays[name] = np.concatenate([case[name] for case in made], axis=axis)
        arrays[f"{name}_ends"] = np.cumsum([case[name].shape[axis] for case in made]).astype(np.int32)
    np.savez_compressed(Path(__file__).parent / "data" / "layout.npz", **arrays)
    print(cases, "layouts,", len(arrays["token_ids"]), "tokens")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
