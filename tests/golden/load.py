"""The golden data for tests: fixtures `tiny_checkpoint` and `golden`, and plain functions to build their inputs.

Registered by tests/conftest.py, so every test may ask for the fixtures.
"""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden import media
from tests.golden.cases import CONVERSATIONS
from tests.golden.tiny import write_checkpoint

DATA = Path(__file__).parent / "data"
CASES = tuple(CONVERSATIONS)


@dataclass(frozen=True, eq=False)
class Case:
    """One conversation, and what the reference makes of it.

    Attributes:
        name: its name in cases.py.
        messages: roles and parts; media by name.
        prompt: the rendered template, each medium one placeholder, ending where the assistant begins.
        token_ids: int32 [tokens], placeholders repeated.
        position_ids: float32 [3, tokens].
        next_position: of the token after the last.
        logits_at: int32 [kept], the token indices whose logits are kept: about one in 24, and the last eight.
        logits: float32 [kept, vocabulary].
        greedy: the next 12 tokens, each the best after a full pass, end tokens included.
        margins: how far each of them was ahead of the second best.
    """

    name: str
    messages: list[dict[str, Any]]
    prompt: str
    token_ids: np.ndarray
    position_ids: np.ndarray
    next_position: float
    logits_at: np.ndarray
    logits: np.ndarray
    greedy: list[int]
    margins: list[float]

    @property
    def stages(self) -> dict[str, np.ndarray]:
        """The same by the names of stages."""
        return {
            "prompt": as_array(self.prompt),
            "token_ids": self.token_ids,
            "positions": self.position_ids,
            "positions/next": np.asarray([self.next_position], np.float64),
            "logits": self.logits,
        }

    def with_media(self) -> list[dict[str, Any]]:
        """The messages as a user would pass them: arrays in place of names."""
        return with_media(self.messages)


def with_media(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Puts arrays in place of the names of media.

    Pictures are uint8 [height, width, 3]; clips float32 at 16 kHz, with `sampling_rate`; films uint8 frames with `fps`,
    and with their waveform as `audio` where the case interleaves it.
    """

    def part(raw: dict[str, Any]) -> dict[str, Any]:
        match raw["type"]:
            case "image":
                return raw | {"image": media.image(raw["image"])}
            case "audio":
                return raw | {"audio": media.audio(raw["audio"]), "sampling_rate": media.RATE}
            case "video":
                frames, fps = media.video(raw["video"])
                sound = {"audio": media.soundtrack(raw["audio"])} if "audio" in raw else {}
                return {"type": "video", "video": frames, "fps": fps} | sound
        return raw

    return [
        m if isinstance(m["content"], str) else {"role": m["role"], "content": [part(p) for p in m["content"]]}
        for m in messages
    ]


class Golden:
    """The fixtures in data/, read when first asked for.

    `vision`, `audio` and `stages` are flat: `golden.vision["odd/tokens"]`; README.md lists the keys.
    """

    @cached_property
    def vision(self) -> dict[str, np.ndarray]:
        return _arrays("vision")

    @cached_property
    def audio(self) -> dict[str, np.ndarray]:
        return _arrays("audio")

    @cached_property
    def stages(self) -> dict[str, np.ndarray]:
        return _arrays("stages")

    def case(self, name: str) -> Case:
        record, arrays = _records()[name], _arrays("conversations")
        return Case(
            name=name,
            messages=record["messages"],
            prompt=record["prompt"],
            token_ids=np.asarray(record["token_ids"], np.int32),
            position_ids=arrays[f"{name}/position_ids"],
            next_position=record["next_position"],
            logits_at=arrays[f"{name}/logits_at"],
            logits=arrays[f"{name}/logits"],
            greedy=record["greedy"],
            margins=record["margins"],
        )


@cache
def _arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as archive:
        return dict(archive)


@cache
def _records() -> dict[str, Any]:
    return json.loads((DATA / "conversations.json").read_text("utf-8"))


def relative_error(ours: Any, theirs: Any) -> float:
    """L2 distance over the L2 norm of `theirs`, in float64."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    apart, norm = float(np.linalg.norm(ours - theirs)), float(np.linalg.norm(theirs))
    return apart / norm if norm else apart and np.inf


def as_array(text: str) -> np.ndarray:
    """A text among stages: its bytes in UTF-8."""
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def prepared(inputs: Any) -> dict[str, np.ndarray]:
    """What `Model.prepare` returned, as stages."""
    return {
        "prompt": as_array(inputs.prompt),
        "token_ids": inputs.token_ids,
        "positions": inputs.position_ids,
        "positions/next": np.asarray([inputs.next_position], np.float64),
    }


def end_tokens(model: Any) -> set[int]:
    """The ids that end a reply, as the model's directory names them."""
    return set(json.loads((Path(model.name) / "generation_config.json").read_text("utf-8"))["eos_token_id"])


def assert_stages(case: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Compares what the reference gives, stage by stage: floats of towers and decoder to 1e-5, the rest exactly."""
    assert theirs.keys() <= ours.keys(), (case, theirs.keys() - ours.keys())
    for name, wanted in theirs.items():
        if name.partition("/")[0] in ("mel", "vision", "audio", "deepstack", "logits"):
            assert relative_error(ours[name], wanted) <= 1e-5, (case, name)
        else:
            np.testing.assert_array_equal(ours[name], wanted, err_msg=f"{case}: {name}")


@pytest.fixture(scope="session")
def golden() -> Golden:
    """What the reference gives."""
    return Golden()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the checkpoint that the golden data belongs to: three float32 shards."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))
