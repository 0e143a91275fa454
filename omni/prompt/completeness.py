"""Completeness of a prompt: every part of every message is in it, as is tried with marked texts, or is named.

Beside the prompt, the same conversation is rendered with signs in its texts. A text whose signs do not come out has
been left out, whatever the template does. What published templates leave out on purpose is allowed: white space around
texts, the thoughts of turns that the user has answered since, and what ties the result of a tool to its call.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from typing import Any

from omni.errors import InputError
from omni.prompt.messages import REASONING
from omni.prompt.template import PRIVATE_USE, ChatTemplate, MediumPart, Rendered, escape, strings
from processors.io.limits import Limits

Message = Mapping[str, Any]
# Numbers and the like: where they stand, the field's name, and the texts of which one must be in the prompt.
_Others = list[tuple[str, str, tuple[str, ...]]]
# What ties calls and results together, and says of what form a call is.
_TIES = frozenset(("id", "index", "tool_call_id", "type"))
_LONG_ENOUGH = 16


class _Signs:
    """Signs in texts, each with what it stands for."""

    def __init__(self, used: set[str], constants: Sequence[str]):
        free = (chr(code) for code in chain(*PRIVATE_USE) if chr(code) not in used)
        characters = list(islice(free, 3))
        if len(characters) < 3:
            raise InputError("bad_text", "the messages hold every private-use character of Unicode")
        self._edge, self._digits = characters[0], characters[1:]
        self._characters, self._constants = characters, constants
        self.texts: list[tuple[str, str]] = []
        """For each pair of signs: what it stands for, and its text."""

    def put(self, text: str, where: str) -> str:
        """A text with a sign at its beginning and one at its end; none where it is blank."""
        body = text.strip()
        if not body:
            return text
        self.texts.append((where, body))
        first = text.index(body)
        last, number = first + len(body), 2 * len(self.texts)
        start = next((at for at in range(first, min(last, first + 200)) if self._is_free(text, at, first, last)), last)
        ends = range(last, max(start, last - 200), -1)
        end = next((at for at in ends if self._is_free(text, at, first, last)), last)
        return text[:start] + self._sign(number - 2) + text[start:end] + self._sign(number - 1) + text[end:]

    def missing(self, plain: str) -> list[tuple[str, str]]:
        """What is not whole in a rendered text."""
        for character in self._characters:
            plain = plain.replace(escape(character), character)
        edge, (zero, one) = self._edge, self._digits
        seen = {
            int(number.replace(zero, "0").replace(one, "1"), 2)
            for number in re.findall(f"{edge}([{zero}{one}]+){edge}", plain)
        }
        return [entry for i, entry in enumerate(self.texts) if not {2 * i, 2 * i + 1} <= seen]

    def _sign(self, number: int) -> str:
        digits = bin(number)[2:].replace("0", self._digits[0]).replace("1", self._digits[1])
        return self._edge + digits + self._edge

    def _is_free(self, text: str, at: int, first: int, last: int) -> bool:
        """Whether a sign breaks up nothing there that the template may look for, within a text or at its ends."""
        for constant in self._constants:
            if text.find(constant, max(at - len(constant) + 1, 0), at + len(constant) - 1) >= 0:
                return False
            if (at == first and text.startswith(constant, first)) or (
                at == last and text[first:last].endswith(constant)
            ):
                return False
        return True


def render_whole(
    template: ChatTemplate,
    messages: Sequence[Message],
    control_tokens: Mapping[str, int],
    *,
    add_generation_prompt: bool = True,
    placeholders: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    variables: Mapping[str, Any] | None = None,
) -> tuple[Rendered, Sequence[Message]]:
    """Render a conversation, all of it; returns the prompt, and the messages in the form that the template reads.

    A template that reads contents only as text, or only as parts, is given its own form; and so with the arguments of
    tool calls, which templates read as JSON text or as a dict.

    Args:
        template: the checkpoint's.
        messages: as `parse` gives them.
        control_tokens: the tokenizer's.
        add_generation_prompt: end with the opening of the assistant's turn.
        placeholders: the control token that stands for a medium of each kind.
        limits: of the template; its own when None.
        tools: declarations of functions.
        variables: what else the template reads, by names.

    Raises:
        InputError: `dropped_content`, the template leaves something out; `media_order`; `template_error` or
            `template_limit`.
    """
    first: InputError | None = None

    def render(form: Sequence[Message]) -> Rendered:
        return template.render(
            form,
            control_tokens,
            add_generation_prompt=add_generation_prompt,
            limits=limits,
            tools=tools,
            variables=variables,
        )

    for form in _forms(messages, template):
        try:
            rendered = render(form)
            _check(template, form, rendered, placeholders or {}, lambda probe: render(probe).plain)
            return rendered, form
        except InputError as error:
            if error.code not in ("template_error", "dropped_content"):
                raise
            first = first or error
    assert first is not None
    raise first


def _forms(messages: Sequence[Message], template: ChatTemplate) -> Iterator[Sequence[Message]]:
    """The same conversation in the forms that templates read, the likeliest first."""
    messages = [_with_arguments(message, parsed=not template.program.reads_argument_text) for message in messages]
    yield messages
    for change in (_as_text, _as_parts, _other_arguments):
        changed = [change(message) for message in messages]
        if changed != messages:
            yield changed


def _as_text(message: Message) -> Message:
    content = message["content"]
    if isinstance(content, str) or any(part["type"] != "text" for part in content):
        return message
    return {**message, "content": "".join(part["text"] for part in content)}


def _as_parts(message: Message) -> Message:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _other_arguments(message: Message) -> Message:
    texts = any(isinstance(_function(call).get("arguments"), str) for call in _calls(message))
    return _with_arguments(message, parsed=texts, written=not texts)


def _with_arguments(message: Message, *, parsed: bool, written: bool = False) -> Message:
    """A message with the arguments of its tool calls as dicts, or as JSON text."""
    if not _calls(message):
        return message

    def changed(function: Mapping[str, Any]) -> dict[str, Any]:
        arguments = function.get("arguments")
        if isinstance(arguments, str) and parsed:
            return {**function, "arguments": json.loads(arguments)}
        if isinstance(arguments, dict) and written:
            return {**function, "arguments": json.dumps(arguments, ensure_ascii=False)}
        return dict(function)

    calls = [
        {**call, "function": changed(call["function"])} if isinstance(call.get("function"), Mapping) else changed(call)
        for call in _calls(message)
    ]
    return {**message, "tool_calls": calls}


def _calls(message: Message) -> Sequence[Mapping[str, Any]]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) and all(isinstance(call, Mapping) for call in calls) else ()


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function", call)
    return function if isinstance(function, Mapping) else {}


def _check(
    template: ChatTemplate,
    messages: Sequence[Message],
    rendered: Rendered,
    placeholders: Mapping[str, str],
    render: Callable[[Sequence[Message]], str],
) -> None:
    for i, message in enumerate(messages, 1):
        content = message["content"]
        if isinstance(content, list) and content and str(content) in rendered.plain:
            raise InputError("dropped_content", f"the chat template writes the parts of message {i} as Python would")
    signs = _Signs(set("".join(chain([template.source], strings(messages)))), template.program.constants)
    seen: list[int] = []
    kinds: list[tuple[str, str]] = []
    others: _Others = []
    probe = [_signed(i, messages, signs, seen, kinds, others) for i in range(len(messages))]

    least = _LONG_ENOUGH
    try:
        missing = signs.missing(render(probe))
    except InputError:
        # A template that reads texts, and stumbles over signs: all is looked for as it is.
        missing, seen, least = signs.texts, list(range(len(kinds))), 1
    for where, text in missing:
        if len(text) < least or not _holds(rendered.plain, text, [t for _, t in signs.texts].count(text)):
            raise _dropped(where)
    for where, name, texts in others:
        if name not in template.program.names and not any(text in rendered.plain for text in texts):
            raise _dropped(where)
    _check_media(rendered, kinds, seen, placeholders, lambda i: render(_without(messages, i)))


def _holds(plain: str, text: str, times: int) -> bool:
    forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
    return any(plain.count(form) >= times for form in forms)


def _signed(
    i: int,
    messages: Sequence[Message],
    signs: _Signs,
    seen: list[int],
    kinds: list[tuple[str, str]],
    others: _Others,
) -> dict[str, Any]:
    """A message with signs in its texts, and media that tell when they are looked at."""
    message, where = messages[i], f"message {i + 1}"
    answered = any(later["role"] == "user" for later in messages[i + 1 :])
    signed: dict[str, Any] = {"role": message["role"]}
    for key, value in message.items():
        name = f"{key!r} of {where}"
        if key == "role":
            continue
        if key == "content":
            thinks = message["role"] == "assistant"
            if isinstance(value, str):
                signed[key] = _content(value, f"the content of {where}", signs, thinks, answered)
                continue
            signed[key] = []
            for number, part in enumerate(value, 1):
                at = f"part {number} of {where}"
                if part["type"] == "text":
                    signed[key].append({**part, "text": _content(part["text"], at, signs, thinks, answered)})
                else:
                    signed[key].append(MediumPart(part, len(kinds), seen))
                    kinds.append((part["type"], at))
        elif key in REASONING:
            if key != REASONING[0] and message.get(REASONING[0]) == value:
                signed[key] = value
            else:
                signed[key] = value if answered or not isinstance(value, str) else signs.put(value, name)
        elif key in _TIES or (key == "name" and message["role"] == "tool"):
            signed[key] = value
        elif key == "tool_calls" and _calls(message):
            signed[key] = [_call(call, name, signs, others) for call in _calls(message)]
        else:
            signed[key] = _walk(value, name, key, signs, others)
    if REASONING[0] in signed:
        for key in REASONING[1:]:
            signed |= {key: signed[REASONING[0]]} if key in signed else {}
    return signed


def _content(text: str, where: str, signs: _Signs, thinks: bool, answered: bool) -> str:
    """A text with signs; what an assistant thought before it answered is a text of its own."""
    if not thinks or "</think>" not in text:
        return signs.put(text, where)
    *thoughts, answer = text.split("</think>")
    if not answered:
        thoughts = [
            "<think>".join(signs.put(piece, f"the thoughts in {where}") for piece in thought.split("<think>"))
            for thought in thoughts
        ]
    return "</think>".join([*thoughts, signs.put(answer, where)])


def _call(call: Mapping[str, Any], where: str, signs: _Signs, others: _Others) -> dict[str, Any]:
    signed: dict[str, Any] = {}
    for key, value in call.items():
        if key in _TIES:
            signed[key] = value
        elif key == "function" and isinstance(value, Mapping):
            signed[key] = _call(value, where, signs, others)
        elif key == "arguments" and isinstance(value, Mapping):
            signed[key] = _walk(value, f"the arguments in {where}", key, signs, others, keys=True)
        else:
            signed[key] = _walk(value, where, key, signs, others)
    return signed


def _walk(
    value: Any,
    where: str,
    key: str,
    signs: _Signs,
    others: _Others,
    *,
    keys: bool = False,
) -> Any:
    """A value with signs in every string, and in every key where no template knows them by name."""
    if isinstance(value, str):
        return signs.put(value, where)
    if isinstance(value, Mapping):
        return {
            signs.put(name, where) if keys else name: _walk(inner, where, name, signs, others, keys=keys)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_walk(inner, where, key, signs, others, keys=keys) for inner in value]
    if value is not None and value is not False:
        # A number alone may stand anywhere; the name of a field does not.
        others.append((where, "" if keys else key, (json.dumps(value), str(value)) if keys else (json.dumps(key),)))
    return value


def _check_media(
    rendered: Rendered,
    kinds: Sequence[tuple[str, str]],
    seen: Sequence[int],
    placeholders: Mapping[str, str],
    without: Callable[[int], str],
) -> None:
    """Media are all there, and those of a kind in order."""
    for kind, token in placeholders.items():
        members = [i for i, (one, _) in enumerate(kinds) if one == kind]
        if rendered.text.count(token) == len(members):
            continue
        for i in members:
            try:
                dropped = without(i) == rendered.plain
            except InputError:
                dropped = False
            if dropped:
                raise _dropped(f"the {kind} that is {kinds[i][1]}")
    last = {index: at for at, index in enumerate(seen)}
    for kind in {kind for kind, _ in kinds}:
        members = [i for i, (one, _) in enumerate(kinds) if one == kind]
        for i in members:
            if i not in last:
                raise _dropped(f"the {kind} that is {kinds[i][1]}")
        if any(last[one] > last[other] for one, other in pairwise(members)):
            raise InputError("media_order", f"the chat template does not keep the order of media of kind {kind}")


def _without(messages: Sequence[Message], index: int) -> list[Message]:
    """The messages without one of their media."""
    count, changed = -1, []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            kept = []
            for part in content:
                count += part["type"] != "text"
                if part["type"] == "text" or count != index:
                    kept.append(part)
            message = {**message, "content": kept}
        changed.append(message)
    return changed


def _dropped(where: str) -> InputError:
    return InputError(
        "dropped_content",
        f"the checkpoint's chat template leaves out {where[:300]}: leave it out yourself, or write it where the "
        "template reads it",
    )
