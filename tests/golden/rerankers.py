"""Small random Qwen3-Reranker and Qwen3-VL-Reranker checkpoints, and what they are asked.

NumPy only. Media are those of media.py, by name.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.golden import text_families, vl
from tests.golden.tiny import TOKENIZER, VOCABULARY, _tokenizer_config, token_ids, write_safetensors

NAMES = ("text", "vl")
TEXT = text_families.CONFIGS["qwen3_tied"] | {
    "vocab_size": VOCABULARY,
    "architectures": ["Qwen3ForCausalLM"],
    "torch_dtype": "float32",
}
_PIECES = {"yes": ("y", "es"), "no": ("n", "o")}

# query, document, instruction; None for the recipe's own.
TEXTS: dict[str, tuple[str, str, str | None]] = {
    "answer": ("Where do the gulls sleep?", "At night they stand on the harbour wall.", None),
    "other": ("Where do the gulls sleep?", "3136 * 12845056 is a large number.", None),
    "instructed": ("5", "Five ships lie in the harbour.", "Find the sentence that holds the number"),
    "lines": ("  a line\nand another ", "\n\n# Title\n\n- one\n- two\n\n", None),
    "empty": ("Who?", "", None),
    "foreign": ("Grüße aus 東京", "Wasser, Wind 🌊 und Möwen", None),
    "long": ("What moves?", "The bar goes right, and the disc stands. " * 40, None),
}
# The same with dicts of what each holds; several to a query, as the published program takes them.
MEDIA: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "text": ({"text": "A disc by the sea."}, {"text": "Gulls over the harbour."}, None),
    "image": ({"text": "A disc by the sea."}, {"image": "small"}, None),
    "both": ({"text": "A disc by the sea."}, {"image": "half", "text": "The same place at five."}, "Find the place."),
    "query": ({"image": "odd"}, {"image": "small", "text": "small"}, None),
    "video": ({"text": "What moves?"}, {"video": "seven", "text": "A bar."}, None),
    "nothing": ({"text": "What moves?"}, {}, None),
}


def tokenizer() -> dict[str, Any]:
    """tokenizer.json with the two answers in the place of its last words: the ids of other tokens stay."""
    content = json.loads(TOKENIZER.read_text("utf-8"))
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    for at, (token, pair) in zip(range(-len(_PIECES), 0), _PIECES.items(), strict=True):
        vocabulary[token] = vocabulary.pop("".join(merges[at]))
        merges[at] = list(pair)
    return content


def write_checkpoint(directory: Path, name: str) -> Path:
    """Writes a directory as published; nothing in it but its name says that it holds a reranker."""
    if name == "vl":
        vl.write_checkpoint(directory, "vl")
    else:
        directory.mkdir(parents=True, exist_ok=True)
        ids = token_ids()
        write = {
            "config.json": TEXT,
            "tokenizer_config.json": _tokenizer_config() | {"processor_class": None, "extra_special_tokens": {}},
            "generation_config.json": {"eos_token_id": [ids["<|im_end|>"]], "pad_token_id": ids["<|endoftext|>"]},
        }
        for file, content in write.items():
            (directory / file).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        shutil.copyfile(vl.TEMPLATE.with_name("omni.jinja"), directory / "chat_template.jinja")
        write_safetensors(directory / "model.safetensors", dict(text_families.tensors(TEXT)))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False), "utf-8")
    return directory
