"""Checkpoints, training states and an embedding that were written before, and what is computed from them again."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.golden import media

if TYPE_CHECKING:
    import omni

WRITTEN = Path(__file__).parent / "written"
EXPECTED = WRITTEN / "expected.npz"
EMBEDDING = WRITTEN / "video.safetensors"
# Both hold bfloat16: `omni` all of it, in several shards; `hybrid` a few tensors of its linear layers in float32.
CHECKPOINTS = ("omni", "hybrid")
# A state was saved after the second of three steps: of all parts, and of adapters.
RUNS = {"full": "omni", "lora": "hybrid"}
STEPS = 3


def options(run: str) -> Any:
    from omni.training import LoRA, TrainingOptions

    adapters = LoRA(rank=2, alpha=4.0) if run == "lora" else None
    # When these were written, towers were trained at the decoder's rate.
    return TrainingOptions(
        steps=STEPS, batch_size=2, learning_rate=3e-3, tower_share=1.0, save_every=2, seed=1, last_share=0.5,
        lora=adapters,
    )  # fmt: skip


def conversation(checkpoint: str, image: str, answer: str | None = None) -> list[dict[str, Any]]:
    """A question about an image and, where the model has an audio part, audio; and its answer."""
    content: list[dict[str, Any]] = [{"type": "image", "image": media.image(image)}]
    if checkpoint == "omni":
        content.append({"type": "audio", "audio": media.audio("short"), "sampling_rate": media.RATE})
    content.append({"type": "text", "text": "So?"})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]


def video() -> "omni.Video":
    """The video whose embedding is kept, with its audio track."""
    import omni

    track = omni.Audio(media.soundtrack("four"), media.RATE)
    return omni.Video(*media.video("four"), audio=track, min_pixels=1024, max_pixels=4096)


def load(checkpoint: str) -> "omni.Model":
    """The model in float32, so that the numbers do not hang on how a machine rounds bfloat16."""
    import omni

    return omni.load(WRITTEN / checkpoint, dtype="float32")


def logits(model: "omni.Model", checkpoint: str) -> np.ndarray:
    """Some rows of the scores of a prompt, the last among them."""
    scores = model.logits(model.prepare(conversation(checkpoint, "small")))
    return np.concatenate([scores[::16], scores[-4:]])


def train(run: str, directory: Path) -> tuple["omni.Model", Any]:
    """A model, and the iterator over the steps of its training, begun or gone on with in that directory."""
    from omni.training import train

    model, name = load(RUNS[run]), RUNS[run]
    conversations = [conversation(name, "small", "A disc."), conversation(name, "half", "Two bars.")]
    return model, train(model, conversations, directory, options(run))


def resume(run: str, directory: Path) -> dict[str, np.ndarray]:
    """Goes on with a copy of a kept state: the numbers of the steps that are left, and scores after them."""
    shutil.copytree(WRITTEN / run, directory)
    model, steps = train(run, directory)
    rows = [(metrics.step, metrics.tokens, metrics.loss, metrics.gradient_norm) for metrics in steps]
    step, tokens, loss, norm = (np.asarray(values) for values in zip(*rows, strict=True))
    return {"step": step, "tokens": tokens, "loss": loss, "norm": norm, "logits": logits(model, RUNS[run])}


def expected() -> dict[str, np.ndarray]:
    with np.load(EXPECTED) as archive:
        return dict(archive)
