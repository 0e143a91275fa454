"""What Hugging Face transformers gives for the same files and conversations, as a trace of the same stages.

torch and transformers are no dependencies: they are looked for when someone asks to be compared with them. Every medium
goes through the reference alone, as decoded by our readers, and the decoder sees the pieces put together; float32 or
bfloat16 on the CPU. torchvision is not needed: frames of a video are resized by its image processor, with Pillow.
"""

import importlib
import json
import re
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np

from omni.errors import InputError
from omni.media.embedding import Embedding
from omni.media.encoder import as_medium
from omni.prompt.messages import Parsed, is_token_ids, parse
from omni.tools.verify.cases import Case
from omni.tools.verify.check import Subject
from omni.tools.verify.reference_media import ReadMedium, read_audio, read_image, read_video, resize_video
from omni.tools.verify.trace import STEPS, choose_layers, choose_rows, keep_scores
from processors import load_audio

_PLACEHOLDERS = {"image": "<|image_pad|>", "video": "<|video_pad|>", "audio": "<|audio_pad|>"}


def describe(subject: Subject) -> dict[str, Any]:
    """What a record tells of the reference: the same files and dtype, on the CPU."""
    versions = {name: version(name) for name in ("torch", "transformers", "numpy", "pillow")}
    return {**subject.about, "platform": "cpu", "device": "cpu", "versions": versions}


class Reference:
    """The model of a directory, as transformers loads it.

    Args:
        subject: our own, whose files, dtype and readers of media are used.

    Raises:
        InputError: `no_transformers`, it is not installed; `no_reference`, it does not read these files.
    """

    def __init__(self, subject: Subject):
        self.torch, self.transformers = _packages()
        self.ours, self.directory = subject.model, subject.directory
        self.access = self.ours.media.access
        self.config: Any = subject.model.config
        self.dtype = getattr(self.torch, subject.about["dtype"])
        raw = json.loads((self.directory / "config.json").read_text("utf-8"))
        self.kind = str(raw.get("model_type"))
        self.model = self._load(raw)
        core = self.model.model
        self.decoder = getattr(core, "language_model", core)
        self.core = core
        self.tokenizer: Any = None
        if self.ours.tokenizer is not None:
            self.tokenizer = self.transformers.AutoTokenizer.from_pretrained(self.directory)
        self.images: Any = None
        self.extractor: Any = None
        if self.config.vision is not None:
            name = "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
            self.images = importlib.import_module(name).Qwen2VLImageProcessorPil.from_pretrained(self.directory)
        if self.config.audio is not None and self.kind == "qwen3_asr":
            self.extractor = self.transformers.AutoProcessor.from_pretrained(self.directory).feature_extractor
        elif self.config.audio is not None:
            self.extractor = self.transformers.WhisperFeatureExtractor.from_pretrained(self.directory)

    def trace(self, case: Case) -> dict[str, np.ndarray]:
        """Everything of `omni.tools.verify.trace.trace` that the reference has.

        Raises:
            InputError: the conversation cannot be used, or has what the reference does not know.
        """
        arrays: dict[str, np.ndarray] = {}
        media: list[ReadMedium] = []
        with self.torch.no_grad():
            if is_token_ids(case.messages):
                ids = np.asarray(case.messages, np.int32)
            else:
                parsed = parse(case.messages)
                media = [self._medium(medium, i, arrays) for i, medium in enumerate(parsed.media)]
                ids = self._prompt(parsed, media, arrays)
            return arrays | self._decode(ids, media)

    # --- Loading ------------------------------------------------------------------------------------------------------

    def _load(self, raw: dict[str, Any]) -> Any:
        lib, options = self.transformers, {}
        if self.kind.startswith("qwen3_omni_moe"):
            loader = lib.Qwen3OmniMoeThinkerForConditionalGeneration
            if "thinker_config" in raw:
                options["config"] = lib.Qwen3OmniMoeConfig.from_pretrained(self.directory).thinker_config
        elif self.kind == "qwen3_asr" and "thinker_config" not in raw:
            loader = lib.Qwen3ASRForConditionalGeneration
        elif self.config.vision is not None:
            loader = lib.AutoModelForImageTextToText
        elif self.config.audio is None:
            loader = lib.AutoModelForCausalLM
        else:
            raise InputError("no_reference", "transformers does not read this naming of the files")
        try:
            model, report = loader.from_pretrained(
                self.directory, dtype=self.dtype, attn_implementation="sdpa", output_loading_info=True, **options
            )
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError("no_reference", f"transformers does not load these files: {reason[:200]}") from error
        wrong = [name for key in ("missing_keys", "mismatched_keys") for name in report[key]]
        if wrong:
            raise InputError("no_reference", f"transformers finds no place or no tensor for {wrong[0]!s:.100}")
        return model.eval()

    # --- Media --------------------------------------------------------------------------------------------------------

    def _medium(self, medium: Any, index: int, arrays: dict[str, np.ndarray]) -> ReadMedium:
        medium = as_medium(medium, self.access)
        if isinstance(medium, Embedding):
            raise InputError("no_reference", "an embedding stands for a medium, which transformers would have to see")
        features: Any = self.ours.media.read(medium)
        kind = type(medium).__name__.lower()
        read = ReadMedium(kind)
        if kind == "image":
            read_image(read, medium, self.images, self.access)
        elif kind == "video":
            frames = resize_video(medium, features, self.ours.media.video.config, self.access)
            read_video(read, frames, features, self.images)
            if features.audio is not None:
                read_audio(read, features.audio, self.extractor)
        else:
            rate = self.ours.media.audio.config.sampling_rate
            read_audio(read, load_audio(medium.source, medium.sampling_rate, rate, access=self.access), self.extractor)
        if read.pixels is not None:
            grid = self.torch.tensor(read.grid[None])
            seen = self.core.visual(self.torch.tensor(read.pixels).to(self.dtype), grid_thw=grid)
            read.tokens = seen.pooler_output
            levels = getattr(seen, "deepstack_features", None)
            read.deepstack = self.torch.stack(list(levels)) if levels else None
            arrays |= {f"pixels/{index}": read.levels, f"pixels/{index}.grid": read.grid.astype(np.int32)}
            arrays[f"vision/{index}"] = _numpy(read.tokens)
            if read.deepstack is not None:
                arrays[f"deepstack/{index}"] = _numpy(read.deepstack)
        if read.mel is not None:
            read.audio_tokens = self._encode_audio(read.mel)
            arrays |= {f"mel/{index}": read.mel, f"audio/{index}": _numpy(read.audio_tokens)}
        return read

    def _encode_audio(self, mel: np.ndarray) -> Any:
        values, frames = self.torch.tensor(mel).to(self.dtype), mel.shape[1]
        if self.kind == "qwen3_asr":
            rest = -frames % (2 * self.model.config.audio_config.n_window)
            mask = self.torch.tensor([[1] * frames + [0] * rest])
            values = self.torch.nn.functional.pad(values, (0, rest))
            return self.core.get_audio_features(values[None], mask).pooler_output
        return self.core.audio_tower(values, feature_lens=self.torch.tensor([frames])).last_hidden_state

    # --- Prompts ------------------------------------------------------------------------------------------------------

    def _prompt(self, parsed: Parsed, media: list[ReadMedium], arrays: dict[str, np.ndarray]) -> np.ndarray:
        source = self.tokenizer.chat_template or self.ours.template.source
        prompt = self.tokenizer.apply_chat_template(
            list(parsed.messages), chat_template=source, tokenize=False, add_generation_prompt=True
        )
        pattern = "|".join(map(re.escape, _PLACEHOLDERS.values()))
        texts = iter([self._placeholder(read) for read in media])
        expanded = re.sub(pattern, lambda _: next(texts), prompt)
        arrays["prompt"] = np.frombuffer(prompt.encode("utf-8"), np.uint8)
        arrays["prompt_ids"] = np.asarray(self.tokenizer(prompt).input_ids, np.int32)
        return np.asarray(self.tokenizer(expanded).input_ids, np.int32)

    def _placeholder(self, read: ReadMedium) -> str:
        """The text that stands for a medium, by the reference's own functions."""
        token = _PLACEHOLDERS[read.kind]
        if read.kind == "audio":
            return token * len(read.audio_tokens)
        if read.kind == "image" or (read.audio_tokens is None and self.kind.startswith("qwen3_omni")):
            return token * len(read.tokens)
        # Their `self` is a whole processor, which would need torchvision; they ask it for these alone.
        names = {"video_token": token, "audio_token": _PLACEHOLDERS["audio"]}
        sides = SimpleNamespace(merge_size=self.images.merge_size, temporal_patch_size=self.images.temporal_patch_size)
        if self.kind.startswith("qwen3_omni"):
            processor = self.transformers.Qwen3OmniMoeProcessor
            names |= {"audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
            videos = {"video_grid_thw": read.grid[None], "video_second_per_grid": [read.seconds_per_grid]}
            return processor.replace_video_with_audio_token(
                SimpleNamespace(video_processor=sides, **names),
                videos,
                0,
                {"num_audio_tokens": [0 if read.audio_tokens is None else len(read.audio_tokens)]},
                0,
                position_id_per_seconds=processor.position_id_per_seconds,
            )
        processor = self.transformers.Qwen3VLProcessor
        names |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
        own = SimpleNamespace(video_processor=sides, **names)
        own._calculate_timestamps = lambda *a: processor._calculate_timestamps(own, *a)
        metadata = SimpleNamespace(fps=1.0, frames_indices=list(read.timestamps))
        videos = {"video_grid_thw": read.grid[None], "video_metadata": [metadata]}
        return processor.replace_video_token(own, videos, 0)

    # --- The decoder --------------------------------------------------------------------------------------------------

    def _positions(self, ids: Any, media: list[ReadMedium]) -> Any:
        """[3, 1, tokens], or None where they count up."""
        torch, tensors = self.torch, {}
        for kind in ("image", "video"):
            grids = [read.grid for read in media if read.kind == kind]
            tensors[kind] = torch.tensor(np.stack(grids)) if grids else None
        mask = torch.ones_like(ids)
        if self.kind.startswith("qwen3_omni"):
            frames = [read.mel.shape[1] for read in media if read.mel is not None]
            seconds = [read.seconds_per_grid for read in media if read.kind == "video"]
            audio_tokens = [read.audio_tokens is not None for read in media if read.kind == "video"]
            if any(audio_tokens) and not all(audio_tokens):
                raise InputError("no_reference", "transformers miscounts videos with audio beside videos without")
            positions, _ = self.core.get_rope_index(
                ids,
                tensors["image"],
                tensors["video"],
                mask,
                any(audio_tokens),
                torch.tensor(frames) if frames else None,
                torch.tensor(seconds) if seconds else None,
            )
            return positions
        if self.config.vision is not None:
            tokens = self.config.tokens
            kinds = (ids == tokens.image_token_id).int() + 2 * (ids == tokens.video_token_id).int()
            return self.core.get_rope_index(ids, kinds, tensors["image"], tensors["video"], mask)[0]
        return None

    def _decode(self, token_ids: np.ndarray, media: list[ReadMedium]) -> dict[str, np.ndarray]:
        torch = self.torch
        ids = torch.tensor(token_ids[None].astype(np.int64))
        positions = self._positions(ids, media)
        plain = torch.arange(len(token_ids), dtype=torch.float32).expand(3, 1, -1)
        shown = plain if positions is None else positions.float()
        after = float(shown.max() + 1)
        arrays = {
            "token_ids": token_ids,
            "positions": shown[:, 0].numpy().astype(np.float32),
            "positions/next": np.asarray([after], np.float64),
        }
        embeds = self.model.get_input_embeddings()(ids).clone()
        seen = torch.zeros_like(ids, dtype=torch.bool)
        levels = []
        for kind in ("image", "video", "audio"):
            token = _token(self.config, kind)
            rows = [read.audio_tokens if kind == "audio" else read.tokens for read in media]
            chosen = [r for r, read in zip(rows, media, strict=True) if r is not None and kind in (read.kind, "audio")]
            if token is None or not chosen:
                continue
            embeds[ids == token] = torch.cat(chosen).to(embeds.dtype)
            if kind != "audio":
                seen |= ids == token
        if any(read.deepstack is not None for read in media):
            depth = next(len(read.deepstack) for read in media if read.deepstack is not None)
            whole = torch.zeros(depth, *embeds.shape, dtype=embeds.dtype)
            for kind in ("image", "video"):
                own = [read.deepstack for read in media if read.kind == kind]
                if own:
                    whole[:, ids == _token(self.config, kind)] = torch.cat(own, dim=1).to(embeds.dtype)
            levels = list(whole[:, seen])
        vocabulary = self.config.text.vocab_size
        rows = choose_rows(len(token_ids), vocabulary, {})
        states = self._watch(lambda: self._forward(ids, ids, embeds, positions, after, seen, levels))
        arrays["embedded"] = states[0]
        at = rows["hidden/rows"]
        for layer in choose_layers(len(states) - 2):
            arrays[f"hidden/{layer:02d}"] = states[1 + layer][at]
        arrays |= {"hidden/rows": at, "hidden/norm": states[-1][at]}
        if not self.config.text.output_head:
            return arrays
        longer, greedy = ids, []
        scores: Any = None
        for _ in range(STEPS):
            scores = self.model.lm_head(self._forward(ids, longer, embeds, positions, after, seen, levels))[0].float()
            greedy.append(int(scores[-1].argmax()))
            longer = torch.cat([longer, torch.tensor([[greedy[-1]]])], dim=1)
        return arrays | keep_scores(scores.numpy(), len(token_ids), rows["logits/rows"], greedy)

    def _forward(
        self, ids: Any, longer: Any, embeds: Any, positions: Any, after: float, seen: Any, levels: list[Any]
    ) -> Any:
        """Hidden states of a prompt, and of tokens after it, without a cache."""
        torch, more = self.torch, longer.shape[1] - ids.shape[1]
        embeds = torch.cat([embeds, self.model.get_input_embeddings()(longer[:, ids.shape[1] :])], dim=1)
        options: dict[str, Any] = {"attention_mask": torch.ones_like(longer), "use_cache": False}
        if positions is not None:
            steps = (after + torch.arange(more, dtype=torch.float32)).expand(3, 1, -1)
            options["position_ids"] = torch.cat([positions, steps.to(positions.dtype)], dim=2)
        if levels:
            none = torch.zeros(1, more, dtype=torch.bool)
            options |= {"visual_pos_masks": torch.cat([seen, none], dim=1), "deepstack_visual_embeds": levels}
        return self.decoder(inputs_embeds=embeds, **options).last_hidden_state

    def _watch(self, run: Any) -> list[np.ndarray]:
        """What each layer reads, what the final norm reads and what it gives."""
        kept: list[np.ndarray] = []
        modules = [*self.decoder.layers, self.decoder.norm]

        def before(_: Any, args: Any, options: Any) -> None:
            kept.append(_numpy((args[0] if args else options["hidden_states"])[0]))

        hooks = [module.register_forward_pre_hook(before, with_kwargs=True) for module in modules]
        try:
            last = run()[0]
            return [*kept, _numpy(last)]
        finally:
            for hook in hooks:
                hook.remove()


def _token(config: Any, kind: str) -> int | None:
    return None if config.tokens is None else config.tokens.placeholder(kind)


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().float().numpy()


def _packages() -> tuple[Any, Any]:
    try:
        torch, transformers = (importlib.import_module(name) for name in ("torch", "transformers"))
    except ImportError as error:
        told = f"{getattr(error, 'name', None) or 'a part of it'} is missing"
        raise InputError("no_transformers", f"transformers cannot be imported: {told}") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch, transformers
