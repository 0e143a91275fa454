"""Each stage by itself: computed from what a record holds of the stage before, and not from our own.

A stage that is wrong is then told from those that only inherit its error. Where our own inputs are the recorded ones to
the last bit, nothing is computed twice.
"""

from collections.abc import Sequence

import numpy as np

from omni.errors import InputError
from omni.media.embedding import Embedding
from omni.media.types import Audio, Image, Video
from omni.model import Model
from omni.prompt.layout import Layout, MediaLayout
from omni.prompt.messages import is_token_ids, parse
from omni.prompt.sequence import Overlay, Prompt
from omni.tools.verify.stages import Arrays, stage_of
from omni.tools.verify.trace import answer, embedded_media, hidden_states, text_of


def isolate(
    model: Model, messages: object, ours: Arrays, recorded: Arrays, into: dict[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Stages from recorded inputs, under their names; a stage whose inputs were not recorded is left out.

    Args:
        model: the one that `ours` is of.
        messages: the conversation.
        ours: its trace.
        recorded: the other trace of it.
        into: filled stage by stage, so that what came before an error can be had; a new one when None.
    """
    alone = {} if into is None else into
    # These come from the conversation itself.
    alone |= {n: array for n, array in ours.items() if stage_of(n) in ("waveform", "pixels", "clock", "prompt")}
    kinds = [] if is_token_ids(messages) else [_kind(medium) for medium in parse(messages).media]
    for i, kind in enumerate(kinds):
        alone |= _mel(model, i, ours, recorded)
        alone |= _towers(model, i, kind, ours, recorded)
    alone |= _prompt_ids(model, ours, recorded)
    layout = _layout(model, kinds, recorded)
    if layout is not None:
        after = np.asarray([layout.next_position], np.float64)
        alone |= {"token_ids": layout.token_ids, "positions": layout.position_ids, "positions/next": after}
    alone |= _decoder(model, kinds, ours, recorded)
    return alone


def same(names: Sequence[str], ours: Arrays, recorded: Arrays) -> bool:
    """Whether arrays are there in both, the same to the last bit."""
    return all(n in ours and n in recorded and np.array_equal(ours[n], recorded[n]) for n in names)


def _kind(medium: object) -> str:
    kinds = {Image: "image", Audio: "audio", Video: "video"}
    return medium.kind if isinstance(medium, Embedding) else kinds[type(medium)]  # type: ignore[index]


def _mel(model: Model, i: int, ours: Arrays, recorded: Arrays) -> dict[str, np.ndarray]:
    waveform, mel = f"waveform/{i}", f"mel/{i}"
    if mel not in ours:
        return {}
    if waveform not in recorded or same([waveform], ours, recorded):
        return {mel: ours[mel]}
    return {mel: model.media.audio(recorded[waveform], model.media.audio.config.sampling_rate).mel}


def _towers(model: Model, i: int, kind: str, ours: Arrays, recorded: Arrays) -> dict[str, np.ndarray]:
    alone: dict[str, np.ndarray] = {}
    pixels, grid, mel = f"pixels/{i}", f"pixels/{i}.grid", f"mel/{i}"
    if pixels in recorded and grid in recorded and model.media.vision is not None:
        if same([pixels, grid], ours, recorded):
            alone |= {name: ours[name] for name in (f"vision/{i}", f"deepstack/{i}") if name in ours}
        else:
            try:
                (seen,) = model.media.vision.encode(recorded[pixels], recorded[grid][None].astype(np.int32))
            except ValueError as error:
                raise InputError("bad_record", f"the pixels of medium {i + 1} do not fit this model: {error}") from None
            alone |= embedded_media(Embedding("image" if kind == "image" else "video", *seen), i)
    if mel in recorded and model.media.audio_tower is not None:
        if same([mel], ours, recorded):
            alone |= {name: ours[name] for name in (f"audio/{i}",) if name in ours}
        else:
            try:
                (audio_tokens,) = model.media.audio_tower.encode([recorded[mel]])
            except ValueError as error:
                raise InputError("bad_record", f"the mel of medium {i + 1} does not fit this model: {error}") from None
            alone[f"audio/{i}"] = audio_tokens
    return alone


def _prompt_ids(model: Model, ours: Arrays, recorded: Arrays) -> dict[str, np.ndarray]:
    if "prompt_ids" not in ours or "prompt" not in recorded:
        return {}
    if same(["prompt"], ours, recorded):
        return {"prompt_ids": ours["prompt_ids"]}
    # Without the marks, users' text cannot be told from the template's.
    if "prompt/marked" not in recorded or model.tokenizer is None:
        return {}
    ids = model.tokenizer.encode_prompt(text_of(recorded["prompt/marked"]), text_of(recorded["prompt/mark"]))
    return {"prompt_ids": np.asarray(ids, np.int32)}


def _layout(model: Model, kinds: Sequence[str], recorded: Arrays) -> Layout | None:
    """The layout of the recorded prompt's tokens and of recorded media."""
    media = []
    for i, kind in enumerate(kinds):
        tokens = recorded.get(f"audio/{i}" if kind == "audio" else f"vision/{i}")
        grid, clock, audio_tokens = (recorded.get(name) for name in (f"pixels/{i}.grid", f"clock/{i}", f"audio/{i}"))
        if tokens is None or (kind != "audio" and grid is None) or (kind == "video" and clock is None):
            return None
        media.append(
            MediaLayout(
                kind=kind,  # type: ignore[arg-type]
                tokens=len(tokens),
                grid_thw=None if grid is None else (int(grid[0]), int(grid[1]), int(grid[2])),
                seconds_per_grid=None if clock is None else float(clock[0]),
                audio_tokens=None if audio_tokens is None or kind == "audio" else len(audio_tokens),
                timestamps=None if clock is None else tuple(clock[1:].tolist()),
            )
        )
    if "prompt_ids" not in recorded:
        return None
    prompt_ids = recorded["prompt_ids"].tolist()
    if model.config.tokens is None:
        inputs = model.prepare(prompt_ids)
        return Layout(inputs.token_ids, inputs.position_ids, inputs.next_position, ())
    return model.prompts.lay_out(prompt_ids, media)


def _decoder(model: Model, kinds: Sequence[str], ours: Arrays, recorded: Arrays) -> dict[str, np.ndarray]:
    """Embedding rows, hidden states, scores and answer, each from the recorded stage before it."""
    if not all(name in recorded for name in ("token_ids", "positions", "positions/next")):
        return {}
    media = [name for name in recorded if name.startswith(("vision/", "audio/", "deepstack/"))]
    inputs = ["token_ids", "positions", "positions/next", *media]
    overlays = _overlays(model, kinds, recorded)
    alone: dict[str, np.ndarray] = {}
    if overlays is not None:
        ids, positions = recorded["token_ids"].astype(np.int32), recorded["positions"].astype(np.float32)
        prompt = Prompt(ids, positions, float(recorded["positions/next"][0]), tuple(overlays))
        alone |= _from_prompt(model, prompt, ours, recorded, same(inputs, ours, recorded))
    rows = recorded.get("logits/rows")
    normed = _rows_of(recorded, rows)
    if normed is not None and "logits" in ours:
        alike = same(["hidden/norm", "logits/rows"], ours, recorded)
        alone["logits"] = ours["logits"] if alike else model.engine.scores(normed)
    return alone


def _from_prompt(model: Model, prompt: Prompt, ours: Arrays, recorded: Arrays, alike: bool) -> dict[str, np.ndarray]:
    rows = recorded.get("hidden/rows", ours["hidden/rows"])
    alone: dict[str, np.ndarray] = {}
    embedded = recorded.get("embedded")
    if "embedded" in ours:
        own = {name: ours[name] for name in ours if name.startswith(("embedded", "hidden/"))}
        states = own if alike else hidden_states(model, prompt, rows)
        alone["embedded"] = states["embedded"]
        if embedded is not None:
            if not np.array_equal(states["embedded"], embedded):
                # Rows for every token, and those of media once more for their deepstack.
                everywhere = Overlay(np.arange(len(prompt), dtype=np.int32), embedded.astype(np.float32))
                overlays = (
                    everywhere,
                    *(Overlay(o.indices, embedded[o.indices], o.deepstack) for o in prompt.overlays),
                )
                prompt_rows = Prompt(prompt.token_ids, prompt.position_ids, prompt.next_position, overlays)
                states = hidden_states(model, prompt_rows, rows)
            alone |= {name: value for name, value in states.items() if name.startswith("hidden/")}
    if "greedy" in ours and "greedy" in recorded:
        steps = len(recorded["greedy"])
        alone["greedy"] = ours["greedy"] if alike else np.asarray(answer(model, prompt, steps), np.int32)
    return alone


def _overlays(model: Model, kinds: Sequence[str], recorded: Arrays) -> list[Overlay] | None:
    """Recorded rows in the places of their placeholders; None where rows or places are missing."""
    overlays = []
    for kind in ("image", "video", "audio"):
        placeholder = None if model.config.tokens is None else model.config.tokens.placeholder(kind)
        places = np.flatnonzero(recorded["token_ids"] == (-1 if placeholder is None else placeholder)).astype(np.int32)
        start = 0
        for i, medium in enumerate(kinds):
            rows = recorded.get(f"{'audio' if kind == 'audio' else 'vision'}/{i}")
            # The rows of a video's audio track stand at placeholders of audio.
            if medium != kind and not (kind == "audio" and medium == "video" and rows is not None):
                continue
            if rows is None:
                return None
            deepstack = None if kind == "audio" else recorded.get(f"deepstack/{i}")
            overlays.append(Overlay(places[start : start + len(rows)], rows.astype(np.float32), deepstack))
            start += len(rows)
        if start != len(places):
            return None
    return overlays


def _rows_of(recorded: Arrays, rows: np.ndarray | None) -> np.ndarray | None:
    """Recorded hidden states of the tokens whose scores were recorded."""
    kept, normed = recorded.get("hidden/rows"), recorded.get("hidden/norm")
    if rows is None or kept is None or normed is None or not np.isin(rows, kept).all():
        return None
    return normed[np.searchsorted(kept, rows)]
