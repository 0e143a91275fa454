"""Makes data/rerankers.json: what transformers 5.23 gives for the pairs of rerankers.py by the published recipes.

    python -m tests.golden.make_rerankers

Needs the `reference` extra. float32, on the CPU. The recipes are those of the model card of Qwen3-Reranker, and of
`qwen3_vl_reranker.py`, which is published with Qwen3-VL-Reranker.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.golden.make_vl import inputs_of
from tests.golden.rerankers import MEDIA, TEXTS, write_checkpoint

DATA = Path(__file__).parent / "data"
SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
TEXT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
MEDIA_INSTRUCTION = "Given a search query, retrieve relevant candidates that answer the query."


def of_texts(directory: Path) -> dict[str, Any]:
    """Beginning, pair and end are tokenized apart; the score is the softmax over two scores of the last token."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

    def ids_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    before = ids_of(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n")
    after = ids_of("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    assert None not in (yes, no) and yes != no
    found = {}
    for case, (query, document, instruction) in TEXTS.items():
        pair = f"<Instruct>: {instruction or TEXT_INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"
        ids = [*before, *ids_of(pair), *after]
        with torch.no_grad():
            last = model(torch.tensor([ids])).logits[0, -1]
        score = float(torch.log_softmax(torch.stack([last[no], last[yes]]), dim=0)[1].exp())
        found[case] = {"token_ids": ids, "score": score}
    return found


def content_of(before: str, held: dict[str, Any]) -> list[dict[str, Any]]:
    """What a query or a document holds, in the program's order."""
    content = [{"type": "text", "text": before}]
    content += [{"type": kind, kind: held[kind]} for kind in ("video", "image", "text") if held.get(kind)]
    return content if len(content) > 1 else [*content, {"type": "text", "text": "NULL"}]


def of_media(directory: Path) -> dict[str, Any]:
    """One linear layer of the difference of two rows of the head, on the last hidden state."""
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessorPil.from_pretrained(directory),
        AutoTokenizer.from_pretrained(directory),
        Qwen3VLVideoProcessor.from_pretrained(directory),
        chat_template=json.loads((directory / "chat_template.json").read_text("utf-8"))["chat_template"],
    )
    vocabulary = processor.tokenizer.get_vocab()
    head = model.lm_head.weight[vocabulary["yes"]] - model.lm_head.weight[vocabulary["no"]]
    found = {}
    for case, (query, document, instruction) in MEDIA.items():
        asked = {"type": "text", "text": "<Instruct>: " + (instruction or MEDIA_INSTRUCTION)}
        content = [asked, *content_of("<Query>:", query), *content_of("\n<Document>:", document)]
        messages = [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
            {"role": "user", "content": content},
        ]
        _, given = inputs_of(processor, messages)
        with torch.no_grad():
            last = model.model(**given, use_cache=False).last_hidden_state[0, -1]
            score = float(torch.sigmoid(last @ head))
        found[case] = {"token_ids": given["input_ids"][0].tolist(), "score": score}
    return found


def main() -> None:
    transformers.logging.set_verbosity_error()
    found: dict[str, Any] = {}
    for name, make in (("text", of_texts), ("vl", of_media)):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = make(write_checkpoint(Path(folder), name))
        print(name, {case: round(record["score"], 4) for case, record in found[name].items()})
    lines = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f"{json.dumps(case)}: {json.dumps(record)}" for case, record in cases.items())
        + "\n}"
        for name, cases in found.items()
    ]
    (DATA / "rerankers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
