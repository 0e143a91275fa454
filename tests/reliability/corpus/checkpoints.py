"""Checkpoint directories: what people have, what contradicts itself, what is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import omni
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo, user
from tests.reliability.directories import (
    SHAPES,
    demo_copy,
    moved,
    sharded,
    tensors,
    text_model,
    write_tensors,
)

CASES = Table("checkpoint")
BAD = Refused("*")
IDS = [1, 2, 3]


def logits(here: Any) -> Any:
    return omni.load(here).logits(IDS)


def info(here: Path) -> Any:
    from omni.tools.summary import summary

    return summary(str(here))


def answer(here: Path) -> str:
    return (
        omni.load(here, parts="text", dtype="float32")
        .generate(user("What is two plus two?"), max_new_tokens=60, temperature=0)
        .text
    )


def right_answer(text: str) -> bool:
    return text == demo().generate(user("What is two plus two?"), max_new_tokens=60, temperature=0).text


def same_as_plain(found: np.ndarray) -> bool:
    """Whether logits are those of the model without the change; computed in NumPy's folder of this case."""
    from tests.reliability.corpus import checkpoints

    return np.array_equal(found, checkpoints.plain_logits())


def plain_logits() -> np.ndarray:
    if "logits" not in _PLAIN:
        import os
        import tempfile

        here = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                _PLAIN["logits"] = logits(text_model())
            finally:
                os.chdir(here)
    return _PLAIN["logits"]


_PLAIN: dict[str, np.ndarray] = {}
SAME = Value(same_as_plain, "of the same scores")
CASES.add("whole", text_model, logits, SAME)
CASES.add("whole in two shards", sharded, logits, SAME)
CASES.add(
    "shards named by ./",
    lambda: sharded({name: f"./model-{1 + (n >= 5)}.safetensors" for n, name in enumerate(SHAPES)}),
    logits,
    SAME,
)
CASES.add("shards named absolutely", lambda: absolute(), logits, SAME)
for key, value in {
    "unsloth_version": "2026.4.2",
    "unsloth_fixed": True,
    "_attn_implementation": "sdpa",
    "_commit_hash": "0" * 40,
    "auto_map": {"AutoConfig": "x.Y"},
    "pretraining_tp": 1,
    "model_name": "mine",
    "use_return_dict": True,
    "torchscript": False,
    "a note": [1, {}],
    "_name_or_path": "/home/somebody/model",
    "attn_implementation": "flash_attention_2",
    "use_bfloat16": True,
    "id2label": {"0": "x"},
}.items():
    CASES.add(f"note {key}", lambda k=key, v=value: text_model({k: v}), logits, SAME)
CASES.add(
    "the end named by the tokenizer alone",
    lambda: demo_copy(without=("generation_config.json",)),
    answer,
    Value(right_answer),
)
CASES.add(
    "the end named by config.json",
    lambda: demo_copy({"config.json": {"eos_token_id": 858}}, without=("generation_config.json",)),
    answer,
    Value(right_answer),
)
CASES.add(
    "YaRN beside rope_parameters",
    lambda: text_model({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}}),
    logits,
    Either(Value(lambda found: not same_as_plain(found)), BAD),
)
CASES.add("an index and a single file that agree", lambda: beside(tensors()), logits, Either(SAME, BAD))
CASES.add(
    "an index and a single file that disagree",
    lambda: beside({k: v + 1 for k, v in tensors().items()}),
    logits,
    # The single file, as transformers chooses, or neither.
    Either(Value(lambda found: not same_as_plain(found), "of the single file"), BAD),
)


def beside(arrays: dict[str, np.ndarray]) -> Path:
    here = sharded()
    write_tensors(here / "model.safetensors", arrays)
    return here


def absolute() -> Path:
    here = sharded()
    index = here / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {k: str((here / v).resolve()) for k, v in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    return here


def outside() -> Path:
    here = sharded({name: "../model.safetensors" for name in SHAPES})
    write_tensors(here.parent / "model.safetensors", tensors())
    return here


# --- what is no checkpoint --------------------------------------------------------------------------------------------
def files(**contents: str | bytes) -> Path:
    here = Path("checkpoint")
    here.mkdir()
    for name, content in contents.items():
        (here / name.replace("__", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
    return here


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1503300328\n"
CASES.add(
    "adapters of PEFT",
    lambda: files(
        adapter_config__json='{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-0.6B"}',
        adapter_model__safetensors=b"\2\0\0\0\0\0\0\0{}",
    ),
    omni.load,
    Refused("*", says="adapter|lora"),
)
CASES.add(
    "a pointer of Git LFS",
    lambda: text_model(files={"model.safetensors": POINTER}),
    omni.load,
    Refused("*", says="lfs"),
)
CASES.add("pointers of Git LFS for shards", lambda: lfs_shards(), omni.load, Refused("*", says="lfs"))
CASES.add(
    "a tokenizer of Git LFS",
    lambda: demo_copy({"tokenizer.json": POINTER}),
    omni.load,
    Refused("*", says="lfs|tokenizer"),
)
CASES.add(
    "a config of Git LFS",
    lambda: text_model(files={"config.json": POINTER}),
    omni.load,
    Refused("*", says="lfs|config"),
)
CASES.add(
    "GGUF alone",
    lambda: moved(text_model(), "model.safetensors", "model-Q4_K_M.gguf"),
    omni.load,
    Refused("*", says="gguf"),
)
CASES.add(
    "pickles alone", lambda: moved(text_model(), "model.safetensors", "pytorch_model.bin"), omni.load, Refused("*")
)
for method in ("fp8", "gptq", "awq", "bitsandbytes", "compressed-tensors", "torchao"):
    CASES.add(
        f"quantised by {method}",
        lambda m=method: text_model(
            {
                "quantization_config": {
                    "quant_method": m,
                    "modules_to_not_convert": [f"model.layers.{n}.mlp.gate" for n in range(94)],
                }
            }
        ),
        omni.load,
        Refused("*", says="quanti|" + method),
    )
CASES.add("an empty folder", files, omni.load, BAD)
CASES.add("a folder that is nowhere", "no/such/folder/here", omni.load, BAD)
CASES.add("a name of spaces", "no such name", omni.load, BAD)
CASES.add("no name", "", omni.load, BAD)
CASES.add("a name of 5,000 letters", "x" * 5000, omni.load, BAD)
CASES.add("a name with a zero", "a\0b", omni.load, BAD)
CASES.add("a name of a number", 5, omni.load, BAD)
CASES.add("a name of None", None, omni.load, BAD)
for options in (
    {"dtype": "int8"},
    {"dtype": "float64"},
    {"dtype": 5},
    {"dtype": object()},
    {"parts": ()},
    {"parts": ("smell",)},
    {"parts": 5},
):
    CASES.add(
        f"options {str(options)[:30]}",
        lambda o=options: (text_model(), o),
        lambda given: omni.load(given[0], **given[1]),
        BAD,
    )


def lfs_shards() -> Path:
    here = sharded()
    for path in here.glob("model-*.safetensors"):
        path.write_text(POINTER)
    return here


# --- JSON of strangers ------------------------------------------------------------------------------------------------
JSON = {
    "deep": '{"a":' + "[" * 20_000 + "]" * 20_000 + "}",
    "of long numbers": '{"a":' + "9" * 5_000 + "}",
    "of words": "words",
    "a list": "[1]",
    "nothing": "",
    "not UTF-8": b"\xff\xfe\xfd",
    "cut": '{"model_type": "qw',
    "of NaN": '{"vocab_size": NaN}',
    "of a surrogate": '{"model_type": "\\ud800"}',
    "doubled": '{"model_type": "qwen3", "model_type": "qwen2"}',
    "null": "null",
}
for name, content in JSON.items():
    CASES.add(f"config.json {name}", lambda c=content: text_model(files={"config.json": c}), omni.load, BAD)
    CASES.add(f"config.json {name}, told of", lambda c=content: text_model(files={"config.json": c}), info, BAD)
    CASES.add(
        f"generation_config.json {name}",
        lambda c=content: text_model(files={"generation_config.json": c}),
        omni.load,
        Either(Value(), BAD) if name in ("doubled", "of NaN", "of a surrogate") else BAD,
    )
    CASES.add(f"index {name}", lambda c=content: text_model(files={"model.safetensors.index.json": c}), omni.load, BAD)
for name in ("deep", "of long numbers", "of words", "a list", "not UTF-8", "cut"):
    for file in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "chat_template.json"):
        CASES.add(
            f"{file} {name}",
            lambda f=file, c=JSON[name]: demo_copy({f: c}),
            lambda here: omni.load(here, parts=("text", "vision")),
            BAD,
        )
for key, value in (
    ("vocab_size", 0),
    ("vocab_size", -1),
    ("vocab_size", 10**30),
    ("vocab_size", "64"),
    ("vocab_size", 64.5),
    ("vocab_size", None),
    ("hidden_size", 0),
    ("hidden_size", 31),
    ("hidden_size", 10**12),
    ("hidden_size", [32]),
    ("num_hidden_layers", 10**9),
    ("num_hidden_layers", -1),
    ("num_hidden_layers", "1"),
    ("num_attention_heads", 0),
    ("num_attention_heads", 10**6),
    ("num_key_value_heads", 0),
    ("num_key_value_heads", 3),
    ("head_dim", 0),
    ("head_dim", 17),
    ("rms_norm_eps", "x"),
    ("rms_norm_eps", float("nan")),
    ("rms_norm_eps", float("inf")),
    ("rms_norm_eps", -1),
    ("hidden_act", "tanh_of_mine"),
    ("hidden_act", 5),
    ("model_type", "bert"),
    ("model_type", None),
    ("model_type", 5),
    ("model_type", ["qwen3"]),
    ("rope_parameters", 5),
    ("rope_parameters", {"rope_theta": 0, "rope_type": "default"}),
    ("rope_parameters", {"rope_theta": float("nan"), "rope_type": "default"}),
    ("rope_parameters", {"rope_theta": "x", "rope_type": "default"}),
    ("rope_parameters", {"rope_theta": 1e4, "rope_type": "of mine"}),
    ("layer_types", ["of_mine"]),
    ("layer_types", 5),
    ("tie_word_embeddings", "yes"),
    ("intermediate_size", 2**40),
    ("attention_bias", 5),
):
    CASES.add(f"{key} of {value!r:.40}", lambda k=key, v=value: text_model({k: v}), omni.load, BAD)
for key, value in (
    ("eos_token_id", "x"),
    ("eos_token_id", 10**6),
    ("eos_token_id", -5),
    ("eos_token_id", [[1]]),
    ("eos_token_id", {"a": 1}),
    ("temperature", "x"),
    ("temperature", float("nan")),
    ("top_p", 7),
    ("top_k", "x"),
    ("top_k", 1e30),
    ("temperature", -1),
):
    CASES.add(
        f"generation_config.json: {key} of {value!r:.30}",
        lambda k=key, v=value: text_model(files={"generation_config.json": json.dumps({"do_sample": True, k: v})}),
        omni.load,
        BAD,
    )
for key in ("image_token_id", "video_token_id", "audio_token_id", "vision_start_token_id", "audio_end_token_id"):
    for value in (10**6, -1, "x", None, 2**40):
        CASES.add(
            f"{key} of {value}",
            lambda k=key, v=value: demo_copy({"config.json": {k: v}}),
            omni.load,
            Either(Value(), BAD) if key == "vision_start_token_id" else BAD,
        )
for key, value in (
    ("merge_size", 4),
    ("merge_size", 0),
    ("merge_size", "2"),
    ("patch_size", 14),
    ("patch_size", 10**9),
    ("temporal_patch_size", 3),
    ("feature_size", 80),
    ("feature_size", 0),
    ("image_mean", [float("nan")] * 3),
    ("image_mean", [0.5]),
    ("image_mean", "x"),
    ("image_std", [0, 0, 0]),
    ("image_std", [float("inf")] * 3),
    ("rescale_factor", float("nan")),
    ("rescale_factor", "x"),
    ("min_pixels", -5),
    ("max_pixels", 0),
    ("max_pixels", "x"),
    ("image_mean", [1e300] * 3),
    ("sampling_rate", 0),
    ("sampling_rate", "x"),
    ("hop_length", 0),
    ("n_fft", 0),
    ("n_fft", 10**12),
    ("image_processor_type", "CLIPImageProcessor"),
    ("image_processor_type", 5),
    ("image_std", [1e-300] * 3),
):
    CASES.add(
        f"preprocessor_config.json: {key} of {value!s:.30}",
        lambda k=key, v=value: demo_copy({"preprocessor_config.json": {k: v}}),
        omni.load,
        BAD,
    )


# --- weights ----------------------------------------------------------------------------------------------------------
def changed(name: str, change: Any) -> Path:
    arrays = tensors()
    arrays[name] = change(arrays[name])
    return text_model(arrays=arrays)


for value in (np.nan, np.inf, -np.inf):
    for name in ("model.embed_tokens.weight", "model.norm.weight", "model.layers.0.mlp.up_proj.weight"):
        CASES.add(
            f"{value} in {name}",
            lambda v=value, n=name: changed(
                n, lambda a: np.where(np.arange(a.size).reshape(a.shape) == 3, np.float32(v), a)
            ),
            lambda here: omni.load(here).generate(IDS, max_new_tokens=3, temperature=0).token_ids,
            BAD,
        )
CASES.add(
    "weights of 1e30",
    lambda: text_model(arrays={k: v * np.float32(1e30) for k, v in tensors().items()}),
    lambda here: omni.load(here).generate(IDS, max_new_tokens=3, temperature=0).token_ids,
    Either(Value(), BAD),
)
CASES.add(
    "a tensor is missing",
    lambda: text_model(arrays={k: v for k, v in tensors().items() if "norm" not in k}),
    omni.load,
    BAD,
)
CASES.add(
    "a tensor too many", lambda: text_model(arrays={**tensors(), "of.mine": np.ones(2, np.float32)}), omni.load, BAD
)
CASES.add(
    "1,000 tensors too many",
    lambda: text_model(arrays={**tensors(), **{f"of.mine.{n}": np.ones(1, np.float32) for n in range(1000)}}),
    omni.load,
    BAD,
)
CASES.add("a tensor of another shape", lambda: changed("model.norm.weight", lambda a: a[:5].copy()), omni.load, BAD)
CASES.add("a tensor of int64", lambda: changed("model.norm.weight", lambda a: a.astype(np.int64)), omni.load, BAD)
CASES.add("a tensor of float64", lambda: changed("model.norm.weight", lambda a: a.astype(np.float64)), omni.load, BAD)
CASES.add("a tensor in two shards", lambda: twice(), logits, Either(SAME, BAD))
CASES.add("a shard is missing", lambda: sharded({name: "model-9.safetensors" for name in SHAPES}), omni.load, BAD)
CASES.add("a shard outside the folder", outside, omni.load, BAD)
CASES.add(
    "an index that promises more",
    lambda: sharded(
        {
            **{n: "model-1.safetensors" for n in list(SHAPES)[:5]},
            **{n: "model-2.safetensors" for n in list(SHAPES)[5:]},
            "of.mine": "model-1.safetensors",
        }
    ),
    omni.load,
    BAD,
)
CASES.add(
    "an index that swaps the shards",
    lambda: sharded({name: f"model-{2 - (n >= 5)}.safetensors" for n, name in enumerate(SHAPES)}),
    omni.load,
    BAD,
)


def twice() -> Path:
    first = tensors()
    names = list(SHAPES)
    second = {n: first[n] for n in names[5:]} | {names[0]: first[names[0]] + 1}
    shards = {"model-1.safetensors": {n: first[n] for n in names[:5]}, "model-2.safetensors": second}
    return sharded({n: f"model-{1 + (names.index(n) >= 5)}.safetensors" for n in names}, shards)


def header(change: Any, data: bytes | None = None, length: int | None = None) -> Path:
    """The weights under a header that `change` made of theirs."""
    here = text_model()
    path = here / "model.safetensors"
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    made = change(json.loads(raw[8 : 8 + size]))
    path.write_bytes(media.safetensors_file(made, raw[8 + size :] if data is None else data, length))
    return here


def with_entry(**fields: Any) -> Any:
    return lambda head: {**head, "model.norm.weight": {**head["model.norm.weight"], **fields}}


def overlapping(head: dict[str, Any]) -> dict[str, Any]:
    norm, other = head["model.norm.weight"], head["model.layers.0.input_layernorm.weight"]
    return {**head, "model.norm.weight": {**norm, "data_offsets": other["data_offsets"]}}


def doubled(head: dict[str, Any]) -> bytes:
    text = json.dumps(head)
    return (
        '{"model.norm.weight": ' + json.dumps(head["model.layers.0.input_layernorm.weight"]) + "," + text[1:]
    ).encode()


HEADERS: dict[str, Any] = {
    "deep": lambda head: b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "of long numbers": lambda head: b'{"a":' + b"9" * 5_000 + b"}",
    "of a long shape": lambda head: (
        b'{"a":{"dtype":"F32","shape":[' + b",".join([b"9223372036854775807"] * 30_000) + b'],"data_offsets":[0,4]}}'
    ),
    "a list": lambda head: b"[1]",
    "words": lambda head: b"words",
    "not UTF-8": lambda head: b'{"\xff": 1}',
    "nothing": lambda head: b"",
    "an empty object": lambda head: {},
    "with an unknown dtype": with_entry(dtype="F7"),
    "with a dtype of a number": with_entry(dtype=5),
    "with a negative size": with_entry(shape=[-32]),
    "with a size of words": with_entry(shape=["32"]),
    "with a float size": with_entry(shape=[32.0]),
    "with a wrong size": with_entry(shape=[31]),
    "with sizes of no end": with_entry(shape=[2**62, 2**62]),
    "with negative offsets": with_entry(data_offsets=[-4, 124]),
    "with offsets beyond": with_entry(data_offsets=[10**12, 10**12 + 128]),
    "with offsets turned": with_entry(data_offsets=[128, 0]),
    "with three offsets": with_entry(data_offsets=[0, 4, 8]),
    "with overlapping tensors": overlapping,
    "with a name twice": doubled,
    "with a True for a size": with_entry(shape=[True, 32]),
    "with metadata of numbers": lambda head: {**head, "__metadata__": {"format": 5}},
    "with metadata of a list": lambda head: {**head, "__metadata__": [1]},
}
for name, change in HEADERS.items():
    CASES.add(
        f"header {name}", lambda c=change: header(c), omni.load, Either(Value(), BAD) if "metadata" in name else BAD
    )
CASES.add("a hole between tensors", lambda: hole(), omni.load, BAD)
CASES.add(
    "bytes behind the tensors",
    lambda: header(lambda head: head, None).joinpath("model.safetensors") and trailing(),
    omni.load,
    BAD,
)
for length in (0, 2**63, 2**64 - 1, 10**9, 7):
    CASES.add(
        f"a header that says it has {length} bytes",
        lambda n=length: header(lambda head: head, length=n),
        omni.load,
        BAD,
    )
for share in (0.0, 0.001, 0.5, 0.99):
    CASES.add(f"weights cut at {share}", lambda s=share: cut(s), omni.load, BAD)


def hole() -> Path:
    def change(head: dict[str, Any]) -> dict[str, Any]:
        moved_ = {
            k: v if k == "__metadata__" else {**v, "data_offsets": [n + 64 for n in v["data_offsets"]]}
            for k, v in head.items()
        }
        return moved_

    here = header(change)
    path = here / "model.safetensors"
    raw = path.read_bytes()
    size = 8 + int.from_bytes(raw[:8], "little")
    path.write_bytes(raw[:size] + bytes(64) + raw[size:])
    return here


def trailing() -> Path:
    import shutil

    shutil.rmtree("checkpoint")
    here = text_model()
    with (here / "model.safetensors").open("ab") as file:
        file.write(bytes(128))
    return here


def cut(share: float) -> Path:
    here = text_model()
    path = here / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    return here
