"""The main job in one go: embeddings, pictures of what the model sees, and a question about each kind of medium.

python samples/demo.py [CHECKPOINT]
"""

import sys
import warnings
from pathlib import Path

import omni
from omni.inspection import inspect

SAMPLES, OUT = Path(__file__).parent, Path("out")


def encode(model: omni.Model) -> None:
    for name in ("china.jpg", "speech.flac"):
        e = model.encode(SAMPLES / name)
        print(f"\n{name}: one {e.kind}, {e.tokens.shape[0]} tokens of width {e.tokens.shape[1]}")
        print("  grid_thw  ", e.grid_thw)
        print("  deepstack ", None if e.deepstack is None else e.deepstack.shape)
        print("  tokens[0] ", *(f"{value:+.4f}" for value in e.tokens[0, :6]), "...")
        print("  pooled()  ", *(f"{value:+.4f}" for value in e.pooled()[:6]), "...")


def draw(model: omni.Model) -> None:
    OUT.mkdir(exist_ok=True)
    media = [SAMPLES / name for name in ("china.jpg", "speech.flac", "bunny.mp4")]
    print("\nWhat the model sees:")
    for title, picture in inspect(model, media, "What do you see and hear?"):
        path = OUT / f"{title.replace(' ', '-')}.png"
        picture.save(path)
        print("  " + str(path))


def chat(model: omni.Model) -> None:
    if model.notice:
        print(f"\nNote: {model.notice}.")
        warnings.filterwarnings("ignore", message=model.notice)
    talk = model.chat(system="You are terse.", max_new_tokens=24)
    for question, medium in (
        ("What is in this picture?", SAMPLES / "china.jpg"),
        ("What do you hear?", SAMPLES / "speech.flac"),
        ("What happens here?", omni.Video(SAMPLES / "bunny.mp4", audio=True)),
    ):
        reply = talk.send(question, medium)
        usage = reply.usage
        print(f"\n> {question}\n{' '.join(reply.text.split())}")
        print(f"  ({usage.prompt_tokens} tokens read, {usage.cached_tokens} of them from the turns before)")


if __name__ == "__main__":
    model = omni.load(sys.argv[1] if len(sys.argv) > 1 else "demo")
    print(model)
    encode(model)
    draw(model)
    chat(model)
