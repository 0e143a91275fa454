"""How well documents meet a query: the recipes of Qwen3-Reranker and Qwen3-VL-Reranker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Float32

from omni.config import RelevanceForm
from omni.errors import InputError, check_batch_size, is_whole, shown
from omni.media.embedding import Embedding
from omni.media.encoder import as_medium
from omni.media.types import is_samples
from omni.prompt.inputs import Inputs
from omni.prompt.prompt_options import PromptOptions
from omni.prompt.template import ChatTemplate
from omni.runtime import Runtime
from processors import Access
from processors.io.access import DEFAULT_ACCESS
from processors.io.sources import describe, names_media

Part = Mapping[str, Any]
# The order in which the published program writes what a document holds.
_KINDS = ("video", "image", "text")


@dataclass(frozen=True, eq=False)
class RankedDocument:
    """A document and how well it meets the query.

    Attributes:
        index: its place among the documents that were given.
        score: from 0 to 1.
        document: itself.
    """

    index: int
    score: float
    document: Any = field(repr=False)


class Reranker:
    """Asks a model about one document after another.

    Args:
        model: a reranker.

    Raises:
        InputError: `not_a_reranker`; `no_tokenizer`.
    """

    def __init__(self, model: Runtime):
        form = model.config.relevance
        if form is None:
            raise InputError(
                "not_a_reranker",
                "this model was not trained to score documents; a directory that holds a reranker says so in its "
                'config.json, "is_original_qwen3_reranker": true, or by its name',
            )
        if model.tokenizer is None:
            raise InputError("no_tokenizer", "the checkpoint directory has no tokenizer, and documents are text")
        answers = [model.tokenizer.id_of(word) for word in (form.yes, form.no)]
        if None in answers:
            raise InputError("not_a_reranker", f"the tokenizer has no tokens {form.yes!r} and {form.no!r} of their own")
        self._model, self._form = model, form
        self._answers = [answer for answer in answers if answer is not None]
        source = (files("omni") / "assets" / "templates" / form.template).read_text("utf-8")
        self._prompts = replace(model.prompts, template=ChatTemplate(source))
        self._options = PromptOptions(variables={"enable_thinking": False}) if form.empty_thought else None

    def prepare(
        self, pairs: Sequence[tuple[Sequence[Part], Sequence[Part]]], instruction: Any, access: Access, salt: str = ""
    ) -> list[Inputs]:
        """The prompts that ask about pairs of a query and a document, their media encoded.

        Args:
            pairs: contents of queries and documents, from `as_content`.
            instruction: what makes a document a good one; the family's own when None.
            access: limits, source policy and deadline.
            salt: caches are shared among calls of the same.

        Raises:
            InputError: `bad_instruction`; a text or a medium cannot be used.
        """
        conversations = [question(self._form, *pair, instruction) for pair in pairs]
        media, cache = self._model.media, self._model.media_cache.salted(salt)
        return self._prompts.prepare(conversations, True, access, media, cache, options=self._options)

    def scores(self, inputs: Sequence[Inputs]) -> Float32[np.ndarray, "pairs"]:
        """The probability of `yes` beside `no` after each prompt, all read together."""
        logits = self._model.engine.next_logits([one.to_prompt() for one in inputs], self._answers).astype(np.float64)
        return np.exp(logits[:, 0] - np.logaddexp(logits[:, 0], logits[:, 1])).astype(np.float32)


def score(
    model: Runtime, query: Any, documents: Any, instruction: Any, batch_size: Any, access: Access
) -> Float32[np.ndarray, "documents"]:
    """One score a document; see `Model.score`."""
    check_batch_size(batch_size)
    reranker = Reranker(model)
    if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Sequence):
        raise InputError("bad_documents", f"documents must be a list, got {shown(documents)}")
    asked = as_content(query, access)
    found = [np.zeros(0, np.float32)]
    for start in range(0, len(documents), batch_size):
        batch = [(asked, as_content(one, access)) for one in documents[start : start + batch_size]]
        found.append(reranker.scores(reranker.prepare(batch, instruction, access)))
    return np.concatenate(found)


def check_top_n(top_n: Any) -> None:
    """Refuse what is not a number of documents, nor None: `bad_top_n`."""
    if top_n is not None and (not is_whole(top_n) or top_n < 1):
        raise InputError("bad_top_n", f"top_n must be a whole number of 1 or more, got {shown(top_n)}")


def ranked(
    scores: Float32[np.ndarray, "documents"], documents: Sequence[Any], top_n: int | None
) -> list[RankedDocument]:
    """Documents by their scores, the best first; equal ones in the order in which they were given."""
    order = sorted(range(len(scores)), key=lambda i: -float(scores[i]))
    return [RankedDocument(i, float(scores[i]), documents[i]) for i in order[:top_n]]


def question(
    form: RelevanceForm, query: Sequence[Part], document: Sequence[Part], instruction: Any
) -> list[dict[str, Any]]:
    """The conversation that asks about one document.

    Raises:
        InputError: `bad_instruction`.
    """
    if instruction is not None and not isinstance(instruction, str):
        raise InputError("bad_instruction", f"the instruction must be a string, got {shown(instruction)}")
    before_instruction, before_query, before_document = form.before
    nothing = [_text(form.nothing)]
    content = [
        _text(before_instruction + (instruction or form.instruction)),
        _text(before_query),
        *(query or nothing),
        _text(before_document),
        *(document or nothing),
    ]
    return [{"role": "system", "content": form.system}, {"role": "user", "content": content}]


def as_content(item: Any, access: Access = DEFAULT_ACCESS) -> list[Part]:
    """A query or a document as parts of a message; none for an empty text.

    Args:
        item: a text; a medium; a part, or a list of parts; or a dict of `text`, `image` and `video`, which stand in the
            published order, media first.
        access: for the question whether a string names media.

    Raises:
        InputError: `ambiguous_text`, a string names media; or the codes of `as_medium`.
    """
    if isinstance(item, str):
        _check_text(item, access)
        return [_text(item)] if item else []
    if isinstance(item, Mapping):
        if "type" in item:
            return [item]
        if set(item) <= set(_KINDS):
            return [
                {"type": kind, kind: one}
                for kind in _KINDS
                for one in _several(item.get(kind))
                if not (kind == "text" and one == "")
            ]
        return [item]  # what reads parts refuses it
    if isinstance(item, list | tuple) and not is_samples(item) and all(isinstance(one, str | Mapping) for one in item):
        return [_text(one) if isinstance(one, str) else one for one in item]
    medium = as_medium(item, access)
    kind = medium.kind if isinstance(medium, Embedding) else type(medium).__name__.lower()
    return [{"type": kind, kind: medium}]


def _several(value: Any) -> Sequence[Any]:
    return () if value is None else value if isinstance(value, list) else [value]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _check_text(text: str, access: Access) -> None:
    """Refuses a string that `encode` reads as media, and that would be scored as text here."""
    kind = names_media(text, access)
    if kind is not None:
        remedy = "pathlib.Path(...)" if kind == "a file" else "omni.Image(...) or omni.Video(...)"
        raise InputError(
            "ambiguous_text",
            f"{describe(text)} is {kind}, and documents that are strings are text: give {remedy} for what it holds, or "
            '{"type": "text", "text": ...} for the string itself',
        )
