"""Makes data/: what transformers 5.23 gives for the checkpoint of tiny.py and the media of media.py.

    python -m tests.golden.make_golden

Needs the `reference` extra. Every medium goes through the reference alone, which is where its answers can be trusted
(docs/parity.md); the decoder then sees the pieces put together. float32, on the CPU.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from transformers import (
    AutoTokenizer,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

from tests.golden.cases import CONVERSATIONS
from tests.golden.media import AUDIO, IMAGES, RATE, VIDEO, audio, image, soundtrack, video
from tests.golden.tiny import digest, write_checkpoint

DATA = Path(__file__).parent / "data"
STEPS = 12
WHOLE_MEL = ("tenth", "short", "second", "uneven")
MEL_EVERY = 25
DEEPSTACK_EVERY = 4  # of a video's tokens
PLACEHOLDER = re.compile(
    re.escape("<|image_pad|>") + "|" + re.escape("<|audio_pad|>") + "|" + re.escape("<|video_pad|>")
)


class Reference:
    """The model and its processor, fed one medium at a time."""

    def __init__(self, directory: Path) -> None:
        config = Qwen3OmniMoeConfig.from_pretrained(directory).thinker_config

        def load(attention: str) -> Qwen3OmniMoeThinkerForConditionalGeneration:
            model, report = Qwen3OmniMoeThinkerForConditionalGeneration.from_pretrained(
                directory,
                config=config,
                dtype=torch.float32,
                attn_implementation=attention,
                output_loading_info=True,
            )
            assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
            return model.eval()

        self.model, self.eager = load("sdpa"), load("eager")
        self.core = self.model.model
        self.processor = Qwen3OmniMoeProcessor(
            Qwen2VLImageProcessorPil.from_pretrained(directory),
            Qwen2VLVideoProcessor.from_pretrained(directory),
            WhisperFeatureExtractor.from_pretrained(directory),
            AutoTokenizer.from_pretrained(directory),
            chat_template=json.loads((directory / "chat_template.json").read_text("utf-8"))["chat_template"],
        )
        self.seen: dict[tuple[str, str], dict[str, Any]] = {}

    def image(self, name: str) -> dict[str, Any]:
        if ("image", name) not in self.seen:
            found = self.processor.image_processor(image(name), return_tensors="pt")
            self.seen["image", name] = self._see(found["pixel_values"], found["image_grid_thw"])
        return self.seen["image", name]

    def video(self, name: str) -> dict[str, Any]:
        if ("video", name) not in self.seen:
            frames, fps = video(name)
            size = type(self.processor).videos_kwargs["size"]
            sides = smart_resize(
                *frames.shape[1:3], factor=32, min_pixels=size["shortest_edge"], max_pixels=size["longest_edge"]
            )
            # The reference resizes a video with torchvision, up to one grey level from PIL; these fixtures hold PIL's.
            resized = np.stack([np.asarray(Image.fromarray(f).resize(sides[::-1], Image.BICUBIC)) for f in frames])
            call = self.processor.video_processor
            found = call([resized], size=size, do_resize=False, return_tensors="pt")
            theirs = call([frames], size=size, return_tensors="pt")
            assert torch.equal(found["video_grid_thw"], theirs["video_grid_thw"])
            differ = (found["pixel_values_videos"] - theirs["pixel_values_videos"]).abs() * 127.5
            both = self._see(found["pixel_values_videos"], found["video_grid_thw"])
            both["seconds_per_grid"] = self.processor.video_processor.temporal_patch_size / fps
            both["torchvision"] = (differ.max().item(), (differ > 0.5).float().mean().item())
            self.seen["video", name] = both
        return self.seen["video", name]

    def sound(self, kind: str, name: str) -> dict[str, Any]:
        """`kind` is audio or soundtrack."""
        if (kind, name) not in self.seen:
            wave = audio(name) if kind == "audio" else soundtrack(name)
            found = self.processor.feature_extractor(
                wave,
                sampling_rate=RATE,
                padding=True,
                truncation=False,
                return_attention_mask=True,
                return_tensors="pt",
            )
            mel, frames = found["input_features"][0], int(found["attention_mask"].sum())
            assert mel.shape[1] == frames == len(wave) // 160, (mel.shape, frames)
            with torch.no_grad():
                tokens, check = (
                    m.model.audio_tower(mel, feature_lens=torch.tensor([frames])).last_hidden_state
                    for m in (self.model, self.eager)
                )
            assert _far(tokens, check) < 2e-6, (kind, name, _far(tokens, check))
            self.seen[kind, name] = {"mel": mel, "frames": frames, "tokens": tokens}
        return self.seen[kind, name]

    def _see(self, pixels: torch.Tensor, grid: torch.Tensor) -> dict[str, Any]:
        with torch.no_grad():
            out, check = (m.model.visual(pixels, grid_thw=grid) for m in (self.model, self.eager))
        assert _far(out.pooler_output, check.pooler_output) < 2e-6
        return {
            "pixels": pixels,
            "grid_thw": grid,
            "tokens": out.pooler_output,
            "deepstack": torch.stack(list(out.deepstack_features)),
        }


def _far(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((a - b).norm() / b.norm())


def _levels(pixels: torch.Tensor) -> np.ndarray:
    """pixel_values as the uint8 levels of one frame a patch; a still repeats its frame."""
    values = pixels.numpy().reshape(len(pixels), 3, 2, 256)
    assert np.array_equal(values[:, :, 0], values[:, :, 1])
    levels = np.round((values[:, :, 0] + 1) * 127.5)
    back = (levels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    assert np.abs(back - values[:, :, 0]).max() < 5e-7
    return levels.astype(np.uint8).reshape(len(pixels), 768)


def make_vision(reference: Reference) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in IMAGES:
        seen = reference.image(name)
        if name != "large":
            found[f"{name}/pixels"] = _levels(seen["pixels"])
        found[f"{name}/grid_thw"] = seen["grid_thw"][0].numpy().astype(np.int32)
        found[f"{name}/tokens"] = seen["tokens"].numpy()
        found[f"{name}/deepstack"] = seen["deepstack"].numpy()
    for name in VIDEO:
        seen = reference.video(name)
        print(
            f"  video {name}: torchvision differs by {seen['torchvision'][0]:.1f} levels at most, "
            f"in {seen['torchvision'][1]:.4%} of values"
        )
        found[f"{name}/grid_thw"] = seen["grid_thw"][0].numpy().astype(np.int32)
        found[f"{name}/seconds_per_grid"] = np.float32(seen["seconds_per_grid"])
        found[f"{name}/tokens"] = seen["tokens"].numpy()
        found[f"{name}/deepstack"] = seen["deepstack"][:, ::DEEPSTACK_EVERY].numpy()
    return found


def make_audio(reference: Reference) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in AUDIO:
        heard = reference.sound("audio", name)
        found[f"{name}/frames"] = np.int32(heard["frames"])
        found[f"{name}/mel"] = heard["mel"][:, :: 1 if name in WHOLE_MEL else MEL_EVERY].numpy()
        found[f"{name}/tokens"] = heard["tokens"].numpy()
    return found


def make_stages(reference: Reference) -> dict[str, np.ndarray]:
    """Intermediate results of one image, one clip and one conversation, to find where a difference begins."""
    visual, tower = reference.core.visual, reference.core.audio_tower
    found: dict[str, np.ndarray] = {}
    hooks = []

    def keep(module: torch.nn.Module, key: str, which: str = "output") -> None:
        def hook(_module: Any, args: Any, output: Any) -> None:
            value = args[0] if which == "input" else output
            found[key] = (value[0] if isinstance(value, tuple) else value).squeeze(0).numpy().copy()

        hooks.append(module.register_forward_hook(hook))

    keep(visual.patch_embed, "vision/patch_embed")
    keep(visual.blocks[0], "vision/positions_added", "input")
    for i, block in enumerate(visual.blocks):
        keep(block, f"vision/block{i}")
    keep(tower.conv_out, "audio/conv_out")
    keep(tower.layers[0], "audio/positions_added", "input")
    for i, layer in enumerate(tower.layers):
        keep(layer, f"audio/layer{i}")
    keep(tower.ln_post, "audio/ln_post")
    seen, heard = reference.image("small"), reference.sound("audio", "uneven")
    with torch.no_grad():
        visual(seen["pixels"], grid_thw=seen["grid_thw"])
        tower(heard["mel"], feature_lens=torch.tensor([heard["frames"]]))
    for i, layer in enumerate(reference.core.language_model.layers):
        keep(layer, f"text/layer{i}")  # before the deepstack row is added
    keep(reference.core.language_model.layers[0], "text/embedded", "input")
    keep(reference.core.language_model.norm, "text/norm")
    run = Conversation(reference, CONVERSATIONS["image"])
    run.logits(run.ids)
    for hook in hooks:
        hook.remove()
    return found


class Conversation:
    """One conversation in the reference, media encoded one by one."""

    def __init__(self, reference: Reference, messages: list[dict[str, Any]]) -> None:
        self.reference = reference
        processor = reference.processor
        self.prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        parts = [part for m in messages if not isinstance(m["content"], str) for part in m["content"]]
        images = [reference.image(p["image"]) for p in parts if p["type"] == "image"]
        videos = [reference.video(p["video"]) for p in parts if p["type"] == "video"]
        sounds, tracks = [], {}
        for part in parts:
            if part["type"] == "audio":
                sounds.append(reference.sound("audio", part["audio"]))
            elif "audio" in part:
                tracks[sum(p["type"] == "video" for p in parts[: parts.index(part)])] = len(sounds)
                sounds.append(reference.sound("soundtrack", part["audio"]))
        self.interleaved = bool(tracks)

        replacements = iter(self._replacements(parts, images, videos, sounds, tracks))
        expanded = PLACEHOLDER.sub(lambda _: next(replacements), self.prompt)
        self.ids = processor.tokenizer(expanded, return_tensors="pt").input_ids
        self.images = images
        self.videos = videos
        self.sounds = sounds
        self._compare_with_call(messages, parts, tracks)

        config = reference.model.config
        self.positions, deltas = reference.core.get_rope_index(
            self.ids,
            torch.cat([i["grid_thw"] for i in images]) if images else None,
            torch.cat([v["grid_thw"] for v in videos]) if videos else None,
            torch.ones_like(self.ids),
            self.interleaved,
            torch.tensor([s["frames"] for s in sounds]) if sounds else None,
            torch.tensor([v["seconds_per_grid"] for v in videos]) if videos else None,
        )
        # Where a video leaves a fraction, `deltas` (the maximum less the length, in float32) may lose its last digit.
        self.next_position = float(self.positions.max() + 1)
        assert abs(self.next_position - (float(deltas[0, 0]) + self.ids.shape[1])) < 1e-4

        embeds = reference.model.get_input_embeddings()(self.ids).detach().clone()
        for token, media in (
            (config.image_token_id, images),
            (config.video_token_id, videos),
            (config.audio_token_id, sounds),
        ):
            if media:
                embeds[self.ids == token] = torch.cat([m["tokens"] for m in media])
        visual = torch.zeros(len(reference.core.visual.merger_list), *embeds.shape)
        for token, media in ((config.image_token_id, images), (config.video_token_id, videos)):
            if media:
                visual[:, self.ids == token] = torch.cat([m["deepstack"] for m in media], dim=1)
        self.embeds = embeds
        self.seen = (self.ids == config.image_token_id) | (self.ids == config.video_token_id)
        self.deepstack = visual[:, self.seen] if self.seen.any() else None

    def _replacements(self, parts: Any, images: Any, videos: Any, sounds: Any, tracks: dict[int, int]) -> list[str]:
        """The text that stands for each medium, from the reference's own functions."""
        processor = self.reference.processor
        grids = {
            "image_grid_thw": torch.cat([i["grid_thw"] for i in images]) if images else None,
            "video_grid_thw": torch.cat([v["grid_thw"] for v in videos]) if videos else None,
            "video_second_per_grid": [v["seconds_per_grid"] for v in videos],
            "num_audio_tokens": [len(s["tokens"]) for s in sounds],
        }
        found, count = [], {"image": 0, "video": 0, "audio": 0}
        for part in parts:
            kind = part["type"]
            if kind == "image":
                found.append(processor.replace_image_token(grids, count["image"]))
            elif kind == "audio":
                found.append(processor.replace_audio_token(grids, count["audio"]))
            elif kind == "video":
                found.append(
                    processor.replace_video_token(
                        grids,
                        count["video"],
                        processed_audio=grids,
                        video_to_audio_indices=[tracks.get(i) for i in range(len(videos))],
                        load_audio_from_video=bool(tracks),
                        position_id_per_seconds=processor.position_id_per_seconds,
                    )
                )
                count["audio"] += "audio" in part
            if kind != "text":
                count[kind] += 1
        return found

    def _compare_with_call(self, messages: Any, parts: Any, tracks: dict[int, int]) -> None:
        """The processor's own call, everything at once, must lay out the same tokens."""
        waves, sources, films, rates = [], [], [], set()
        for part in parts:
            if part["type"] == "video":
                frames, fps = video(part["video"])
                films.append(frames)
                rates.add(fps)
                if "audio" in part:
                    waves.append(soundtrack(part["audio"]))
                    sources.append(len(films) - 1)
            elif part["type"] == "audio":
                waves.append(audio(part["audio"]))
                sources.append(None)
        if len(rates) > 1:
            return  # one fps for the whole call is all that it takes
        extra = {"load_audio_from_video": True, "audio_from_video_indices": sources} if tracks else {}
        called = self.reference.processor(
            text=self.prompt,
            images=[image(p["image"]) for p in parts if p["type"] == "image"] or None,
            videos=films or None,
            audio=waves or None,
            videos_kwargs={"fps": rates.pop()} if rates else {},
            **extra,
        )
        if called["input_ids"][0] != self.ids[0].tolist():
            print(
                f"  the reference's call lays out other tokens: {len(called['input_ids'][0])} for {self.ids.shape[1]}"
            )

    def logits(self, ids: torch.Tensor, *, eager: bool = False) -> torch.Tensor:
        """A full pass, without a cache, over the prompt and whatever follows it."""
        model = self.reference.eager if eager else self.reference.model
        more = ids.shape[1] - self.ids.shape[1]
        steps = self.next_position + torch.arange(more, dtype=torch.float32).expand(3, 1, -1)
        with torch.no_grad():
            embeds = torch.cat([self.embeds, model.get_input_embeddings()(ids[:, self.ids.shape[1] :])], dim=1)
            out = model.model.language_model(
                inputs_embeds=embeds,
                position_ids=torch.cat([self.positions, steps], dim=2),
                attention_mask=torch.ones_like(ids),
                visual_pos_masks=torch.cat([self.seen, torch.zeros(1, more, dtype=torch.bool)], dim=1),
                deepstack_visual_embeds=None if self.deepstack is None else list(self.deepstack),
                use_cache=False,
            )
            return model.lm_head(out.last_hidden_state)[0]

    def whole_model(self) -> dict[str, Any]:
        """Keyword arguments of the reference's own forward pass."""
        found: dict[str, Any] = {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids)}
        if self.images:
            found["pixel_values"] = torch.cat([i["pixels"] for i in self.images])
            found["image_grid_thw"] = torch.cat([i["grid_thw"] for i in self.images])
        if self.videos:
            found["pixel_values_videos"] = torch.cat([v["pixels"] for v in self.videos])
            found["video_grid_thw"] = torch.cat([v["grid_thw"] for v in self.videos])
            found["video_second_per_grid"] = torch.tensor([v["seconds_per_grid"] for v in self.videos])
        if self.sounds:
            longest = max(s["frames"] for s in self.sounds)
            found["input_features"] = torch.stack(
                [torch.nn.functional.pad(s["mel"], (0, longest - s["frames"])) for s in self.sounds]
            )
            found["feature_attention_mask"] = torch.tensor(
                [[1] * s["frames"] + [0] * (longest - s["frames"]) for s in self.sounds]
            )
        if self.interleaved:
            found["use_audio_in_video"] = True
        return found


def _router_gap(reference: Reference, run: Conversation) -> float:
    """The closest that any token comes to choosing another expert."""
    gaps, k = [], reference.model.config.text_config.num_experts_per_tok

    def hook(_module: Any, _args: Any, output: Any) -> None:
        best = output[0].topk(k + 1, dim=-1).values
        gaps.append(float((best[:, k - 1] - best[:, k]).min()))

    hooks = [layer.mlp.gate.register_forward_hook(hook) for layer in reference.core.language_model.layers]
    run.logits(run.ids)
    for handle in hooks:
        handle.remove()
    return min(gaps)


def make_conversation(reference: Reference, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    run = Conversation(reference, CONVERSATIONS[name])
    ids, margins = run.ids, []
    logits = run.logits(ids)
    assert _far(logits, run.logits(ids, eager=True)) < 5e-6

    several_clips = len(run.sounds) > 1
    with torch.no_grad():
        whole = reference.model(**run.whole_model(), use_cache=False).logits[0]
    distance = _far(logits, whole)
    # Together, clips of different lengths change each other's tails in the reference; alone they do not.
    assert distance < 5e-6 or several_clips, (name, distance)

    for _ in range(STEPS):
        best = run.logits(ids)[-1].topk(2)
        margins.append(float(best.values[0] - best.values[1]))
        ids = torch.cat([ids, best.indices[:1].view(1, 1)], dim=1)
    greedy = ids[0, run.ids.shape[1] :].tolist()
    generated = reference.model.generate(
        **run.whole_model(), max_new_tokens=STEPS, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, run.ids.shape[1] :].tolist()
    if generated != greedy:
        print(f"  generate differs from full passes: {generated} for {greedy}")

    count = run.ids.shape[1]
    at = sorted({*range(0, count, max(7, count // 24)), *range(max(count - 8, 0), count)})
    gap = _router_gap(reference, run)
    print(
        f"  {name}: {count} tokens, logits std {logits.std():.2f}, whole model {distance:.1e}, "
        f"smallest margin {min(margins):.4f}, router {gap:.1e}"
    )
    record = {
        "messages": CONVERSATIONS[name],
        "prompt": run.prompt,
        "token_ids": run.ids[0].tolist(),
        "next_position": run.next_position,
        "greedy": greedy,
        "margins": [round(m, 5) for m in margins],
        "smallest_router_gap": gap,
    }
    arrays = {
        "position_ids": run.positions[:, 0].numpy().astype(np.float32),
        "logits_at": np.asarray(at, np.int32),
        "logits": logits[at].numpy(),
    }
    return record, arrays


def _save(name: str, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(DATA / f"{name}.npz", **arrays)
    print(f"{name}: {(DATA / f'{name}.npz').stat().st_size / 1e6:.2f} MB")


def main() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        reference = Reference(write_checkpoint(directory))
    _save("vision", make_vision(reference))
    _save("audio", make_audio(reference))
    _save("stages", make_stages(reference))
    records, arrays = {}, {}
    for name in CONVERSATIONS:
        records[name], found = make_conversation(reference, name)
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    _save("conversations", arrays)
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "weights_sha256": digest(),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(record, ensure_ascii=False)}" for name, record in records.items()]
    body = ",\n".join([f'"_made_with": {json.dumps(versions)}', *lines])
    (DATA / "conversations.json").write_text(f"{{\n{body}\n}}\n", "utf-8")


if __name__ == "__main__":
    main()
