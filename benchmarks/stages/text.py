"""The text decoder: reading prompts and decoding, of a dense, a sparse and a hybrid one."""

import json
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beside import DENSE, SPARSE
from benchmarks.stages.gated_delta import delta_products
from benchmarks.stages.stage import BYTES, Call, Cost, Product, Stage, Timed

CONFIGS = Path(__file__).parents[2] / "tests" / "golden" / "text_configs.json"
VOCABULARY = 32_000  # of prompts, and of the models whose own would be a large part of what is left of them
NEXT = json.loads(CONFIGS.read_text("utf-8"))["Qwen3-Next-80B-A3B"] | {
    "num_hidden_layers": 4,
    "num_experts": 128,
    "vocab_size": VOCABULARY,
    "bos_token_id": None,
    "eos_token_id": None,
}
MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "dense 0.6B": (DENSE | {"num_hidden_layers": 28}, ""),
    "4 layers of 30B-A3B": (SPARSE | {"num_hidden_layers": 4}, "a vocabulary of 32,000"),
    "one cycle of Next": (NEXT, "128 of the 512 experts, so that both sides fit in memory; a vocabulary of 32,000"),
}
_SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
_SMALL |= {"vocab_size": 512, "num_hidden_layers": 4}
_SMALL_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_SMALL_LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "shared_expert_intermediate_size": 32}
_SMALL_LINEAR |= {"linear_key_head_dim": 16, "linear_value_head_dim": 16}
PROMPT = 32  # tokens before decoding begins


def config_of(model: str, quick: bool) -> dict[str, Any]:
    """config.json of a model."""
    config = MODELS[model][0]
    if not quick:
        return config
    config = config | _SMALL
    config |= _SMALL_EXPERTS if "num_experts" in config else {}
    return config | (_SMALL_LINEAR if "linear_num_key_heads" in config else {})


def prompts(round: int, batch: int, tokens: int, vocabulary: int) -> np.ndarray:
    """Token ids; others in every round, since what was read before need not be read again."""
    return np.random.RandomState(round).randint(0, min(VOCABULARY, vocabulary), (batch, tokens))


def layer_kinds(config: dict[str, Any]) -> list[str]:
    """Of each layer, whether it attends or is linear."""
    every = config.get("full_attention_interval", 1)
    return ["full" if (i + 1) % every == 0 else "linear" for i in range(config["num_hidden_layers"])]


def matrices(config: dict[str, Any], kind: str) -> list[tuple[int, int]]:
    """Inputs and outputs of the matrices of a layer that every token goes through, but for its experts."""
    width, head = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    if kind == "linear":
        narrow = config["linear_num_key_heads"] * config["linear_key_head_dim"]
        heads, wide = (
            config["linear_num_value_heads"],
            config["linear_num_value_heads"] * config["linear_value_head_dim"],
        )
        found = [(width, 2 * narrow + 2 * wide), (width, 2 * heads), (wide, width)]
    else:
        gated = 2 if "full_attention_interval" in config else 1
        found = [(width, gated * queries), (width, keys), (width, keys), (queries, width)]
    if "num_experts" not in config:
        hidden = config["intermediate_size"]
        return [*found, (width, hidden), (width, hidden), (hidden, width)]
    found.append((width, config["num_experts"]))
    if shared := config.get("shared_expert_intermediate_size"):
        found += [(width, shared), (width, shared), (shared, width)]
    return found


def cost(config: dict[str, Any], tokens: int, dtype: str, batch: int = 1, before: int = 0) -> Cost:
    """What it takes to read `tokens` of each row after `before`, and to score the last."""
    rows, size, width = tokens * batch, BYTES[dtype], config["hidden_size"]
    experts, hidden = config.get("num_experts", 0), config.get("moe_intermediate_size", 0)
    chosen, heads, head = config.get("num_experts_per_tok", 0), config["num_attention_heads"], config["head_dim"]
    products, moved, read = [], 0.0, 0.0
    for kind in layer_kinds(config):
        for k, n in matrices(config, kind):
            products.append(Product(rows, k, n))
            read += k * n * size
            moved += 2 * rows * n * size
        if experts:
            visited, each = min(experts, rows * chosen), max(1, rows * chosen // experts)
            products += [Product(each, width, 2 * hidden, visited), Product(each, hidden, width, visited)]
            read += visited * 3 * width * hidden * size
            moved += rows * chosen * 4 * hidden * size
        if kind == "full":
            length = before + (tokens + 1) / 2 if tokens > 1 else before + 1
            products += [
                Product(tokens, head, int(length), heads, batch),
                Product(tokens, int(length), head, heads, batch),
            ]
            read += 2 * batch * before * config["num_key_value_heads"] * head * size
        elif tokens > 1:
            products += delta_products(tokens, config["linear_num_value_heads"], config["linear_value_head_dim"], batch)
        else:
            state = config["linear_num_value_heads"] * config["linear_key_head_dim"] * config["linear_value_head_dim"]
            read += 2 * 4 * batch * state  # read and written, in float32
        moved += 8 * rows * width * size
    products.append(Product(batch, width, config["vocab_size"]))
    read += width * config["vocab_size"] * size
    return Cost(tuple(products), 0.0, read) if tokens == 1 else Cost(tuple(products), moved)


def _prepare(model: str, dtype: str, quick: bool, folder: Path) -> None:
    from benchmarks.checkpoints import write

    write(folder, config_of(model, quick), dtype)


def _ours(model: str, dtype: str, quick: bool, batch: int, tokens: int, new: int, folder: Path) -> Call:
    import omni

    loaded, vocabulary = omni.load(folder, dtype=dtype), config_of(model, quick)["vocab_size"]

    def reply(seed: int, count: int) -> np.ndarray:
        ids = prompts(seed, batch, tokens, vocabulary).tolist()
        found = loaded.generate(ids, max_new_tokens=count, temperature=0, batch_size=batch)
        return np.asarray([one.token_ids for one in found])

    def decode(round: int) -> Timed:
        start = time.perf_counter()
        found = reply(2 * round, new)
        middle = time.perf_counter()
        reply(2 * round + 1, 1)  # another prompt, which takes as long to read
        return Timed((2 * middle - start - time.perf_counter()) / (new - 1), found)

    return Call((lambda round: reply(2 * round, 1)) if new == 1 else decode)


def _reference(model: str, dtype: str, quick: bool, batch: int, tokens: int, new: int, folder: Path) -> Call:
    torch: Any = import_module("torch")
    kind: Any = import_module("transformers").AutoModelForCausalLM
    torch.set_grad_enabled(False)
    loaded = kind.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return Call(partial(reference_reply, loaded, config_of(model, quick)["vocab_size"], batch, tokens, new))


def reference_reply(model: Any, vocabulary: int, batch: int, tokens: int, new: int, round: int) -> Any:
    """Read prompts with the reference; decode from their second token on by its clock."""
    torch: Any = import_module("torch")
    device = model.device
    ids = torch.from_numpy(prompts(2 * round, batch, tokens, vocabulary)).to(device)
    found = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    replies = [found.logits[:, -1].argmax(-1)]
    if new == 1:
        return replies[0].cpu().numpy()[:, None]
    replies[0].cpu()
    start = time.perf_counter()
    for _ in range(new - 1):
        found = model(input_ids=replies[-1][:, None], past_key_values=found.past_key_values, use_cache=True)
        replies.append(found.logits[:, -1].argmax(-1))
    stacked = torch.stack(replies, 1).cpu().numpy()
    return Timed((time.perf_counter() - start) / (new - 1), stacked)


def stage(
    model: str, dtype: str, quick: bool, *, batch: int = 1, tokens: int = PROMPT, new: int = 1, **more: Any
) -> Stage:
    """Reading a prompt when `new` is 1, else a step of decoding after it."""
    config = config_of(model, quick)
    how = model, dtype, quick, batch, tokens, new
    decoding = new > 1
    name = f"decode, {batch} row{'s' * (batch > 1)}" if decoding else f"prefill {tokens}"
    return Stage(
        f"{model}, {name}, {dtype}",
        "text",
        dtype,
        {"ours": partial(_ours, *how), "reference": partial(_reference, *how)},
        f"{model.replace(' ', '-')}-{dtype}",
        partial(_prepare, model, dtype, quick),
        cost(config, 1, dtype, batch, tokens + new // 2) if decoding else cost(config, tokens, dtype, batch),
        items=batch if decoding else tokens,
        unit="tokens",
        note=MODELS[model][1],
        **more,
    )


def stages(quick: bool) -> list[Stage]:
    """Each model in bfloat16, the dense one in float32 as well."""
    if quick:
        few: dict[str, Any] = {"rounds": (1, 1)}
        return [
            stage("dense 0.6B", "float32", True, batch=2, new=4, **few),
            stage("4 layers of 30B-A3B", "float32", True, **few),
            stage("one cycle of Next", "float32", True, **few),
        ]
    found = [
        stage("dense 0.6B", "float32", False, tokens=512),
        stage("dense 0.6B", "float32", False, new=24),
    ]
    for model in MODELS:
        found += [
            stage(model, "bfloat16", False, tokens=512),
            stage(model, "bfloat16", False, tokens=4096, rounds=(1, 3), seconds=30),
            stage(model, "bfloat16", False, new=24),
            stage(model, "bfloat16", False, batch=8, new=16),
        ]
    return found
