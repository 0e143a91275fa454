"""Saved embeddings, and embeddings in messages."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import omni
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo, user

CASES = Table("embedding")
BAD = Refused("unreadable_embedding", "bad_embedding")
ROWS, WIDTH = 4, 128


def saved(change: Any = None, header: Any = None, raw: Any = None) -> Path:
    """A saved embedding of a picture, its tensors, its metadata or its bytes changed."""
    from safetensors.numpy import load_file, save_file

    path = Path("e.safetensors")
    demo().encode(media.picture(64, 64)).save(path)
    data = path.read_bytes()
    meta = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    if change or header:
        tensors = load_file(str(path))
        tensors = change(tensors) if change else tensors
        save_file(tensors, str(path), metadata={k: v for k, v in {**meta, **(header or {})}.items() if v is not None})
    if raw:
        path.write_bytes(raw(path.read_bytes()))
    return path


CASES.add(
    "saved and loaded",
    saved,
    omni.Embedding.load,
    Value(lambda e: e.kind == "image" and np.array_equal(e.tokens, demo().encode(media.picture(64, 64)).tokens)),
)
CASES.add(
    "saved twice", saved, lambda path: (path.read_bytes(), saved().read_bytes()), Value(lambda pair: pair[0] == pair[1])
)
CASES.add(
    "loaded and asked about",
    saved,
    lambda path: (
        demo()
        .generate(user({"type": "image", "image": omni.Embedding.load(path)}, "?"), max_new_tokens=2, temperature=0)
        .token_ids
    ),
    Value(),
)
for value in (np.nan, np.inf, -np.inf):
    CASES.add(
        f"{value} in a file",
        lambda v=value: saved(
            lambda t: {
                **t,
                "tokens": np.where(
                    np.arange(t["tokens"].size).reshape(t["tokens"].shape) == 3, np.float32(v), t["tokens"]
                ),
            }
        ),
        omni.Embedding.load,
        BAD,
    )
    CASES.add(
        f"{value} in a file's deepstack",
        lambda v=value: saved(lambda t: {**t, "deepstack": t["deepstack"] * np.float32(v)}),
        omni.Embedding.load,
        BAD,
    )
for name, change in {
    "no tokens": lambda t: {"deepstack": t["deepstack"]},
    "tokens of int": lambda t: {**t, "tokens": t["tokens"].astype(np.int32)},
    "tokens of one axis": lambda t: {**t, "tokens": t["tokens"][0]},
    "another number of tokens": lambda t: {**t, "tokens": t["tokens"][:-1]},
    "a surplus tensor": lambda t: {**t, "more": t["tokens"]},
    "no rows": lambda t: {"tokens": t["tokens"][:0], "deepstack": t["deepstack"][:, :0]},
}.items():
    CASES.add(
        f"file of {name}",
        lambda c=change: saved(c),
        omni.Embedding.load,
        Either(Value(), BAD) if name in ("a surplus tensor", "no rows") else BAD,
    )
for key, value in (
    ("kind", "smell"),
    ("kind", None),
    ("grid_thw", "1 2"),
    ("grid_thw", "a b c"),
    ("grid_thw", "-1 -2 3"),
    ("grid_thw", "1 9 9"),
    ("grid_thw", "99999999999999999999 1 1"),
    ("grid_thw", "0 0 0"),
    ("seconds_per_grid", "nan"),
    ("seconds_per_grid", "x"),
    ("seconds_per_grid", "inf"),
    ("timestamps", "a"),
    ("timestamps", "nan"),
    ("timestamps", "inf 1"),
    ("format", "other"),
    ("format", None),
    ("grid_thw", "9" * 5000 + " 1 1"),
    ("seconds_per_grid", "-1"),
):
    CASES.add(
        f"file whose {key} is {value!s:.30}",
        lambda k=key, v=value: saved(header={k: v}),
        omni.Embedding.load,
        Either(Value(), BAD) if value == "1 9 9" else BAD,
    )
for name, raw in {
    "cut": lambda data: data[:-100],
    "cut in its header": lambda data: data[:20],
    "nothing": lambda data: b"",
    "words": lambda data: b"words",
    "a length of 2^64": lambda data: b"\xff" * 8 + data[8:],
    "trailing bytes": lambda data: data + bytes(50),
    "damage": lambda data: media.damaged(data, 0.01, 40),
}.items():
    CASES.add(f"file: {name}", lambda r=raw: saved(raw=r), omni.Embedding.load, BAD)
CASES.add("file: nowhere", "nothing.safetensors", omni.Embedding.load, BAD)
CASES.add("file: a folder", ".", omni.Embedding.load, BAD)
CASES.add("file: a zero", "a\0b", omni.Embedding.load, BAD)
CASES.add("file: another model's weights", lambda: other(), omni.Embedding.load, BAD)


def other() -> Path:
    from safetensors.numpy import save_file

    save_file({"a": np.ones(2, np.float32)}, "other.safetensors")
    return Path("other.safetensors")


def embedding(**fields: Any) -> omni.Embedding:
    given = {
        "kind": "image",
        "tokens": np.zeros((ROWS, WIDTH), np.float32),
        "deepstack": np.zeros((2, ROWS, WIDTH), np.float32),
        "grid_thw": (1, 4, 4),
        **fields,
    }
    return omni.Embedding(**given)


def asked(fields: dict[str, Any]) -> Any:
    kind = fields.get("kind", "image")
    return (
        demo().generate(user({"type": kind, kind: embedding(**fields)}, "?"), max_new_tokens=2, temperature=0).token_ids
    )


MISFIT = Refused("bad_embedding", "wrong_medium", "bad_part", "not_finite", "embedding_*", "bad_*")
CASES.add("made by hand", {}, asked, Value())
NAN = np.full((ROWS, WIDTH), np.nan, np.float32)
for name, fields in {
    "NaN": {"tokens": NAN},
    "infinity": {"tokens": np.full((ROWS, WIDTH), np.inf, np.float32)},
    "NaN in deepstack": {"deepstack": np.full((2, ROWS, WIDTH), np.nan, np.float32)},
    "another width": {"tokens": np.zeros((ROWS, 64), np.float32), "deepstack": np.zeros((2, ROWS, 64), np.float32)},
    "no deepstack": {"deepstack": None},
    "one level": {"deepstack": np.zeros((1, ROWS, WIDTH), np.float32)},
    "no grid": {"grid_thw": None},
    "a grid of two negatives": {"grid_thw": (-1, -4, 4)},
    "a grid of other rows": {"grid_thw": (1, 6, 8)},
    "a grid of words": {"grid_thw": ("a", "b", "c")},
    "a grid of floats": {"grid_thw": (1.0, 4.0, 4.0)},
    "a grid of zeros": {"grid_thw": (0, 0, 0)},
    "a grid of 2^40": {"grid_thw": (2**40, 4, 4)},
    "no rows": {"tokens": np.zeros((0, WIDTH), np.float32), "deepstack": np.zeros((2, 0, WIDTH), np.float32)},
    "ints": {"tokens": np.zeros((ROWS, WIDTH), np.int32)},
    "an odd kind": {"kind": "smell"},
    "a kind of None": {"kind": None},
    "a video without seconds": {"kind": "video"},
    "seconds of nan": {"kind": "video", "seconds_per_grid": float("nan")},
    "seconds of words": {"kind": "video", "seconds_per_grid": "x"},
    "audio of NaN": {"kind": "audio", "tokens": NAN, "deepstack": None, "grid_thw": None},
    "1e38": {"tokens": np.full((ROWS, WIDTH), 3e38, np.float32)},
    "objects": {"tokens": np.full((ROWS, WIDTH), None)},
    "a list": {"tokens": [[0.0] * WIDTH] * ROWS},
}.items():
    CASES.add(
        f"made by hand: {name}",
        lambda f=fields: f,
        asked,
        Either(Value(), MISFIT) if name in ("1e38", "a grid of floats", "a list") else MISFIT,
    )
CASES.add(
    "of another kind than its part",
    lambda: embedding(),
    lambda e: demo().prepare(user({"type": "audio", "audio": e}, "?")),
    Refused("wrong_medium"),
)
CASES.add(
    "with a budget",
    lambda: embedding(),
    lambda e: demo().prepare(user({"type": "image", "image": e, "max_pixels": 9}, "?")),
    Refused("bad_option"),
)
