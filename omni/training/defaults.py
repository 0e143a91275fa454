"""Defaults of training that depend on the model and on the data."""

import math
from collections.abc import Sequence
from dataclasses import replace

from omni.errors import InputError
from omni.model import Model
from omni.prompt.messages import parse
from omni.prompt.records import Conversation, naming
from omni.training.options import TrainingOptions

# Rates of Adam at a width of 1; they fall as the width grows (arXiv:2203.03466, table 8). At the demo's width of
# 128 they are 6e-4 and 2e-3; at 2,048 they are 4e-5 and 1.2e-4, as is usual there.
_WHOLE_RATE, _LORA_RATE = 0.08, 0.25
_USUAL_WIDTH = 2048
# Fewer steps teach nothing new, however few conversations there are; many conversations come so often at the least.
_LEAST_STEPS, _LEAST_EPOCHS = 120, 3
# Rows of more tokens than these are left as they are.
_MOST_TOKENS = 4096


def completed(options: TrainingOptions, model: Model, count: int = 0, mix_share: float = 0.0) -> TrainingOptions:
    """Return the options with every choice made that was left open.

    Args:
        options: how to train.
        model: what is trained.
        count: how many conversations there are.
        mix_share: how many batches of all hold earlier ones.

    Raises:
        InputError: `bad_option`, there is no number of steps, and no conversations that it could follow from.
    """
    steps, rate = options.steps, options.learning_rate
    if steps is None:
        if not count:
            raise InputError("bad_option", "steps must be a whole number above 0 where batches are made elsewhere")
        epoch = count / options.batch_size / max(1 - mix_share, 0.01)
        steps = max(_LEAST_STEPS, math.ceil(_LEAST_EPOCHS * epoch))
    if rate is None:
        width = _USUAL_WIDTH if model.config.text is None else model.config.text.hidden_size
        rate = (_WHOLE_RATE if options.lora is None else _LORA_RATE) / width
    return replace(options, steps=steps, learning_rate=rate)


def answer_tokens(model: Model, conversations: Sequence[Conversation]) -> list[int]:
    """Return the ids of the tokens that the answers of conversations hold, for `LoRA.tokens`.

    Adapters beside the matrices of layers cannot change how a token is read or written. Where a new word has tokens
    that the model was hardly trained on, their rows of the embedding and of the head have to be trained as well
    (arXiv:2405.05417 tells how common such tokens are).

    Args:
        model: whose tokenizer reads them.
        conversations: with an answer each.

    Returns:
        Ids in rising order; of more than 4,096, those that occur least often.

    Raises:
        InputError: a conversation cannot be used; the message tells which, counted from 1.
    """
    if model.tokenizer is None:
        raise InputError("no_tokenizer", "training on conversations needs a tokenizer in the checkpoint directory")
    counts: dict[int, int] = {}
    for i, conversation in enumerate(conversations):
        with naming(i):
            messages = parse(conversation).messages
        for message in messages:
            if message["role"] == "assistant":
                content = message["content"]
                parts = [content] if isinstance(content, str) else content
                text = "".join(part if isinstance(part, str) else part.get("text", "") for part in parts)
                for token in model.tokenizer.encode(text):
                    counts[token] = counts.get(token, 0) + 1
    return sorted(sorted(counts, key=lambda token: (counts[token], token))[:_MOST_TOKENS])
