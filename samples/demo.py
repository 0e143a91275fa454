"""The main job in one go: questions about a picture, a recording and a clip, embeddings, and what the model sees.

python samples/demo.py [CHECKPOINT]
"""

import sys
import time
import warnings
from pathlib import Path

import omni
from omni.tools.inspect import inspect

SAMPLES, OUT = Path(__file__).parent, Path("out")


def chat(model: omni.Model) -> None:
    if model.notice:
        print(f"\nNote: {model.notice}.")
        warnings.filterwarnings("ignore", message=model.notice)
    for turns in (
        [("What is in this picture?", "shapes.png"), ("Where is the red circle?",)],
        [("What do you hear?", "seven.flac")],
        [("Which way does it go?", "star.mp4")],
        [("Does the spoken number match the written one?", "digit.jpg", "seven.flac")],
        [("What is in this picture?", "china.jpg")],
    ):
        talk = model.chat(max_new_tokens=32, temperature=0)
        print()
        for question, *names in turns:
            began = time.perf_counter()
            reply = talk.send(question, *(SAMPLES / name for name in names))
            print(f"> {question}  {'  '.join(names)}")
            print(f"{reply.text}   ({time.perf_counter() - began:.1f} s)")


def encode(model: omni.Model) -> None:
    for name in ("shapes.png", "seven.flac"):
        e = model.encode(SAMPLES / name)
        print(f"\n{name}: one {e.kind}, {e.tokens.shape[0]} tokens of width {e.tokens.shape[1]}")
        print("  grid_thw  ", e.grid_thw, " deepstack ", None if e.deepstack is None else e.deepstack.shape)
        print("  pooled()  ", *(f"{value:+.4f}" for value in e.pooled()[:6]), "...")


def draw(model: omni.Model) -> None:
    OUT.mkdir(exist_ok=True)
    media = [SAMPLES / name for name in ("shapes.png", "seven.flac", "star.mp4")]
    print("\nWhat the model sees:")
    for title, picture in inspect(model, media, "What do you see and hear?"):
        path = OUT / f"{title.replace(' ', '-')}.png"
        picture.save(path)
        print("  " + str(path))


if __name__ == "__main__":
    model = omni.load(sys.argv[1] if len(sys.argv) > 1 else "demo")
    print(model)
    chat(model)
    encode(model)
    draw(model)
