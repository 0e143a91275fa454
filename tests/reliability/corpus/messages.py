"""Conversations: every form of part, what other programs put beside them, and what is none."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

import omni
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo, user
from tests.reliability.injection import ATTACKS, control_counts, plain_counts

CASES = Table("message")
BAD = Refused(
    "bad_*",
    "unknown_key",
    "wrong_medium",
    "media_unknown",
    "template_error",
    "image_*",
    "video_*",
    "audio_*",
    "source_*",
    "pixel_limits",
    "media_count",
    "unused_part",
    "lost_part",
    "dropped_*",
)


def prepare(messages: Any) -> Any:
    return demo().prepare(messages)


def held(count: int) -> Value:
    return Value(lambda inputs: len(inputs.media) == count and len(inputs.spans) >= count, f"with {count} media")


def where() -> str:
    Path("a.png").write_bytes(media.image_bytes())
    return "a.png"


def says(*texts: str) -> Value:
    return Value(lambda inputs: all(text in inputs.prompt for text in texts), f"that holds {texts}")


def record(extra: dict[str, Any], mark: bytes = b"") -> Path:
    messages = [{"role": "user", "content": "<image>What is this?"}, {"role": "assistant", "content": "A circle."}]
    path = Path("a.jsonl")
    path.write_bytes(mark + json.dumps({"messages": messages, **extra}).encode() + b"\r\n")
    return path


def records(path: Path) -> Any:
    from omni.prompt.records import read_records

    return read_records(path)


IMAGE = functools.partial(media.image_bytes, None)
for name, part in {
    "image": lambda: {"type": "image", "image": where()},
    "image without a type": lambda: {"image": where()},
    "image_url": lambda: {"type": "image_url", "image_url": {"url": where()}},
    "image_url as text": lambda: {"type": "image_url", "image_url": where()},
    "image_url with detail auto": lambda: {"type": "image_url", "image_url": {"url": where(), "detail": "auto"}},
    "image_url with detail low": lambda: {"type": "image_url", "image_url": {"url": where(), "detail": "low"}},
    "image_url with detail high": lambda: {"type": "image_url", "image_url": {"url": where(), "detail": "high"}},
    "image of bytes": lambda: {"type": "image", "image": IMAGE()},
    "image of an array": lambda: {"type": "image", "image": np.zeros((40, 40, 3), np.uint8)},
    "omni.Image": lambda: {"type": "image", "image": omni.Image(IMAGE())},
    "image with budgets": lambda: {"type": "image", "image": IMAGE(), "min_pixels": 4096, "max_pixels": 9000},
    "video": lambda: {"type": "video", "video": media.clip()},
    "video of frames": lambda: {"type": "video", "video": [where()] * 4, "fps": 1},
    "video with max_pixels": lambda: {"type": "video", "video": media.clip(), "max_pixels": 12_000},
    "video with total_pixels": lambda: {"type": "video", "video": media.clip(), "total_pixels": 4096 * 8},
    "video with nframes": lambda: {"type": "video", "video": media.clip(), "nframes": 4},
    "video with sample_fps": lambda: {"type": "video", "video": [where()] * 4, "sample_fps": 2.0},
    "video_url": lambda: {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + encoded(media.clip())}},
    "audio": lambda: {"type": "audio", "audio": media.audio_bytes(media.tone(1))},
    "audio of an array": lambda: {"type": "audio", "audio": media.tone(1), "sampling_rate": 16_000},
    "input_audio": lambda: {
        "type": "input_audio",
        "input_audio": {"data": encoded(media.audio_bytes(media.tone(1))), "format": "wav"},
    },
    "audio_url": lambda: {
        "type": "audio_url",
        "audio_url": {"url": "data:audio/wav;base64," + encoded(media.audio_bytes(media.tone(1)))},
    },
    "video with its audio": lambda: {"type": "video", "video": media.clip(20, audio=True), "audio": True},
}.items():
    CASES.add(f"part: {name}", lambda p=part: user(p(), {"type": "text", "text": "What?"}), prepare, held(1))


def encoded(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


CASES.add("one picture twice", lambda: user(*[{"type": "image", "image": media.picture()}] * 2), prepare, held(2))
CASES.add("words in a list", lambda: user("a", {"type": "text", "text": "b"}), prepare, says("ab"))
CASES.add("nothing said", [{"role": "user", "content": ""}], prepare, Value())
CASES.add("an empty list of parts", [{"role": "user", "content": []}], prepare, Either(Value(), BAD))
CASES.add(
    "an assistant that called tools",
    [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 41}'}}],
        },
    ],
    prepare,
    Either(says("41"), BAD),
)
CASES.add(
    "tool arguments as JSON text",
    [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 41}'}}],
        },
        {"role": "user", "content": "y"},
    ],
    prepare,
    Either(says("41"), BAD),
)
CASES.add(
    "a tool's answer",
    [{"role": "user", "content": "x"}, {"role": "tool", "content": "forty-one"}],
    prepare,
    Either(says("forty-one"), BAD),
)
CASES.add(
    "a thought beside an answer",
    [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y", "reasoning_content": "forty-one"},
        {"role": "user", "content": "z"},
    ],
    prepare,
    Either(Value(), BAD),
)
for key in ("images", "videos", "audios"):
    CASES.add(
        f"{key} beside content",
        lambda k=key: [{"role": "user", "content": "What?", k: [where()]}],
        prepare,
        Either(Value(lambda inputs: len(inputs.media) == 1), BAD),
    )
    CASES.add(
        f"{key} beside messages",
        lambda k=key: record({k: [where()]}),
        records,
        Either(
            Value(
                lambda found: any(
                    isinstance(p, dict) and p.get("type") != "text" for p in found[0].messages[0]["content"]
                )
            ),
            Refused("bad_line"),
        ),
    )
for key, value in (("system", "Be terse."), ("tools", "[]"), ("tools", [{"name": "x"}])):
    CASES.add(
        f"{key} {type(value).__name__} beside messages",
        lambda k=key, v=value: record({k: v}),
        records,
        Either(Value(lambda found: "Be terse." in str(found[0].messages)), Refused("bad_line")),
    )
for key in ("image", "video", "audio", "tools", "image_url"):
    CASES.add(
        f"{key} beside content of a message",
        lambda k=key: [{"role": "user", "content": "What?", k: where()}],
        prepare,
        Either(Value(lambda inputs: len(inputs.media) == 1), BAD),
    )


def beside(content: list[Any], mark: bytes = b"") -> Path:
    here = Path("records")
    here.mkdir()
    (here / "a.png").write_bytes(media.image_bytes())
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "A circle."}]
    (here / "a.jsonl").write_bytes(mark + json.dumps({"messages": messages}).encode())
    return here / "a.jsonl"


def prepared_record(path: Path) -> Any:
    return demo().prepare(records(path)[0].messages[:1])


for name, content in (
    ("a picture", [{"type": "image", "image": "a.png"}]),
    ("image_url", [{"type": "image_url", "image_url": {"url": "a.png"}}]),
    ("image_url as text", [{"type": "image_url", "image_url": "a.png"}]),
    ("a part without a type", [{"image": "a.png"}]),
    ("frames", [{"type": "video", "video": ["a.png"] * 4, "fps": 1}]),
):
    CASES.add(f"record: {name} beside its file", lambda c=content: beside(c), prepared_record, held(1))
CASES.add(
    "record with a byte order mark",
    lambda: beside([{"type": "image", "image": "a.png"}], b"\xef\xbb\xbf"),
    prepared_record,
    held(1),
)
for name, data in (
    ("deep", b'{"messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    ("of long numbers", b'{"messages":' + b"9" * 5_000 + b"}"),
    ("of NaN", b'{"messages": NaN}'),
    ("of words", b"words"),
    ("of a list", b"[1]"),
    ("of nothing", b""),
    ("not UTF-8", b"\xff\xfe"),
    ("cut", b'{"messages": [{"role": "us'),
    ("UTF-16", '{"messages": []}'.encode("utf-16")),
    ("empty messages", b'{"messages": []}'),
):

    def file(d=data) -> Path:
        Path("a.jsonl").write_bytes(d)
        return Path("a.jsonl")

    CASES.add(f"record {name}", file, records, Refused("bad_line", "bad_file"))
for name, messages in (
    ("None", None),
    ("a string", "hi"),
    ("bytes", b"hi"),
    ("a number", 5),
    ("nothing", []),
    ("a dict", {"role": "user"}),
    ("a list of strings", ["hi"]),
    ("a list of None", [None]),
    ("no role", [{"content": "x"}]),
    ("no content", [{"role": "user"}]),
    ("an odd role", [{"role": "wizard", "content": "x"}]),
    ("a role of None", [{"role": None, "content": "x"}]),
    ("a role in capitals", [{"role": "USER", "content": "x"}]),
    ("a role list", [{"role": ["user"], "content": "x"}]),
    ("content of a number", [{"role": "user", "content": 5}]),
    ("content of None", [{"role": "user", "content": None}]),
    ("content of bytes", [{"role": "user", "content": b"x"}]),
    ("content of a dict", [{"role": "user", "content": {"a": 1}}]),
    ("a part of None", user(None, None)),
    ("a part of a number", user(5, 6)),
    ("a part of a list", user(["a"], ["b"])),
    ("a part of nothing", user({}, {})),
    ("an odd type", user({"type": "smell", "smell": 1})),
    ("a type of a number", user({"type": 5})),
    ("text of None", user({"type": "text", "text": None})),
    ("text of a number", user({"type": "text", "text": 5})),
    ("text of a list", user({"type": "text", "text": ["a"]})),
    ("a part with a surplus key", user({"type": "text", "text": "x", "b": 1})),
    ("image of None", user({"type": "image", "image": None})),
    ("image of a number", user({"type": "image", "image": 5})),
    ("image of an object", user({"type": "image", "image": object()})),
    ("image of a dict", user({"type": "image", "image": {}})),
    ("image of an empty list", user({"type": "image", "image": []})),
    ("image of nothing", user({"type": "image", "image": b""})),
    ("image of True", user({"type": "image", "image": True})),
    ("video of None", user({"type": "video", "video": None})),
    ("video of a number", user({"type": "video", "video": 5})),
    ("audio of a number", user({"type": "audio", "audio": 5})),
    ("audio of a dict", user({"type": "audio", "audio": {}})),
    ("image_url of None", user({"type": "image_url", "image_url": None})),
    ("image_url of nothing", user({"type": "image_url", "image_url": {}})),
    ("image_url of a number", user({"type": "image_url", "image_url": {"url": 5}})),
    ("image_url of odd detail", user({"type": "image_url", "image_url": {"url": "a", "detail": 5}})),
    ("input_audio of words", user({"type": "input_audio", "input_audio": {"data": "####", "format": "wav"}})),
    ("input_audio of nothing", user({"type": "input_audio", "input_audio": {}})),
    ("a surrogate", user("\ud800")),
    ("a surrogate in a part", user({"type": "text", "text": "a\udfff"}, "b")),
    ("min_pixels of words", user({"type": "image", "image": b"x", "min_pixels": "5"})),
    ("max_pixels of -1", user({"type": "image", "image": b"x", "max_pixels": -1})),
    ("fps of nan", user({"type": "video", "video": b"x", "fps": float("nan")})),
    ("a wrong wrapper", user({"type": "image", "image": omni.Audio(b"x")})),
    ("an array of messages", np.zeros((2, 2))),
    ("token ids below 0", [-1, 5]),
    ("token ids beyond", [5, 10**6]),
    ("token ids of 2^40", [2**40]),
    ("token ids of floats", np.array([1.5])),
    ("no token ids", np.zeros(0, np.int64)),
    ("token ids in two axes", np.zeros((2, 2), np.int64)),
    ("token ids of True", [True, False]),
    ("mixed", [5, {"role": "user"}]),
    ("two in an image's place", user({"type": "image", "image": [media.png(40, 40), media.png(40, 40)]})),
    ("min_pixels of 40 million", user({"type": "image", "image": media.png(1, 1), "min_pixels": 4 * 10**7})),
    ("min_pixels of 10^30", user({"type": "image", "image": media.png(1, 1), "min_pixels": 10**30})),
    ("num_frames of 10^9", user({"type": "video", "video": media.clip(), "num_frames": 10**9})),
    (
        "min_pixels above max_pixels",
        user({"type": "image", "image": media.png(9, 9), "min_pixels": 9, "max_pixels": 5}),
    ),
    ("a key that is no string", [{"role": "user", "content": "x", 5: "y"}]),
):
    right: Any = BAD
    if name in ("mixed", "token ids of True", "a key that is no string", "token ids in two axes"):
        right = Either(Value(), BAD)
    if name.startswith("min_pixels of 4") or name.startswith("min_pixels of 10"):
        right = Refused("pixel_limits", "bad_option", "image_too_large", "too_many_tokens", "too_long")
    CASES.add(f"not one: {name}", lambda m=messages: m, prepare, right)
    CASES.add(
        f"not one to answer: {name}",
        lambda m=messages: m,
        lambda m: demo().generate(m, max_new_tokens=1, temperature=0),
        Either(Value(), BAD) if isinstance(right, Either) else Refused(*right.codes, "part_not_loaded"),
    )


def deep(kind: type, depth: int = 3000) -> Any:
    found: Any = "x"
    for _ in range(depth):
        found = [found] if kind is list else {"a": found}
    return found


def circular() -> list[Any]:
    message: dict[str, Any] = {"role": "user", "content": "x"}
    message["self"] = message
    return [message]


for kind in (list, dict):
    CASES.add(
        f"3,000 {kind.__name__}s deep beside content",
        lambda k=kind: [{"role": "user", "content": "x", "extra": deep(k)}],
        prepare,
        Either(Value(), BAD),
    )
    CASES.add(
        f"3,000 {kind.__name__}s deep as content", lambda k=kind: [{"role": "user", "content": deep(k)}], prepare, BAD
    )
CASES.add("a message that holds itself", circular, prepare, Either(Value(), BAD))
CASES.add(
    "100,000 letters",
    lambda: user("word " * 20_000),
    lambda messages: len(demo().prepare(messages).token_ids),
    Either(Value(), Refused("too_long", "too_many_tokens", "prompt_too_long", "context_length")),
)
CASES.add("a zero", user("a\0b"), prepare, says("a\0b"))
CASES.add(
    "every private-use character",
    lambda: user("".join(map(chr, [*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE)]))),
    prepare,
    Refused("bad_text"),
)
CASES.add(
    "frames beyond what fits",
    lambda: user({"type": "video", "video": np.zeros((5_000, 32, 32, 3), np.uint8), "fps": 1}),
    prepare,
    Refused("video_*", "too_many_*", "too_long", "bad_option", "media_tokens", "prompt_too_long"),
)
for number, attack in enumerate(ATTACKS):
    CASES.add(
        f"control tokens in words, {number}",
        lambda a=attack: a,
        lambda content: (control_counts(content), plain_counts(content)),
        Value(lambda found: found[0] == found[1], "with no more control tokens"),
    )
OPTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "temperature nan": ({"temperature": float("nan")}, ("bad_temperature",)),
    "temperature -1": ({"temperature": -1}, ("bad_temperature",)),
    "temperature inf": ({"temperature": float("inf")}, ("bad_temperature",)),
    "temperature x": ({"temperature": "x"}, ("bad_temperature",)),
    "top_p 0": ({"top_p": 0}, ("bad_top_p",)),
    "top_p 2": ({"top_p": 2}, ("bad_top_p",)),
    "top_p nan": ({"top_p": float("nan")}, ("bad_top_p",)),
    "top_k -1": ({"top_k": -1}, ("bad_top_k",)),
    "top_k 1.5": ({"top_k": 1.5}, ("bad_top_k",)),
    "top_k x": ({"top_k": "x"}, ("bad_top_k",)),
    "seed x": ({"seed": "x"}, ("bad_seed",)),
    "seed -1": ({"seed": -1}, ("bad_seed",)),
    "seed 2^70": ({"seed": 2**70}, ("bad_seed",)),
    "two seeds": ({"seed": [1, 2]}, ("bad_seed",)),
    "no tokens": ({"max_new_tokens": 0}, ("bad_max_new_tokens",)),
    "tokens -1": ({"max_new_tokens": -1}, ("bad_max_new_tokens",)),
    "tokens 1.5": ({"max_new_tokens": 1.5}, ("bad_max_new_tokens",)),
    "tokens True": ({"max_new_tokens": True}, ("bad_max_new_tokens",)),
    "tokens x": ({"max_new_tokens": "x"}, ("bad_max_new_tokens",)),
    "stop 5": ({"stop": 5}, ("bad_stop",)),
    "stop None": ({"stop": [None]}, ("bad_stop",)),
    "batch 0": ({"batch_size": 0}, ("bad_batch_size",)),
    "batch x": ({"batch_size": "x"}, ("bad_batch_size",)),
}
for name, (options, codes) in OPTIONS.items():
    CASES.add(
        f"option {name}",
        lambda o=options: o,
        lambda o: demo().generate(user("hi"), **{"max_new_tokens": 1, **o}),
        Refused(*codes, "bad_option", "bad_sampling", "bad_options"),
    )
CASES.add(
    "temperature of 1e-38",
    {},
    lambda _: (
        demo().generate(user("hi"), max_new_tokens=5, temperature=1e-38, seed=0).token_ids
        == demo().generate(user("hi"), max_new_tokens=5, temperature=0).token_ids
    ),
    Either(Value(bool, "of the greedy answer"), Refused("bad_temperature")),
)
for name, item in (
    ("a number", 5),
    ("None", None),
    ("a dict", {}),
    ("an object", object()),
    ("a ragged list", [[1], [[2]]]),
):
    CASES.add(f"embed {name}", lambda i=item: i, lambda i: demo().embed(i), BAD)
CASES.add(
    "embed nothing", "", lambda text: demo().embed(text), Value(lambda v: abs(float(np.linalg.norm(v)) - 1) < 1e-3)
)
CASES.add(
    "embed of an instruction that is none",
    5,
    lambda value: demo().embed("x", instruction=value),
    Refused("bad_instruction"),
)
CASES.add("chat with bytes", b"x", lambda value: demo().chat(temperature=0).send(value), Refused("bad_messages"))
CASES.add(
    "chat with a system of a number",
    5,
    lambda value: demo().chat(value, temperature=0).send("hi"),
    Refused("bad_content"),
)
