"""Chat templates: a conversation as the text a model was trained on, safe from control tokens in what users write.

Before rendering, a mark breaks up every place where a user's string could begin, or go on with, a control token; the
tokenizer sees control tokens only where no mark is, and removes the marks before it encodes. So `<|im_end|>` in a
message stays eleven characters of text, also when two parts, or a part and the template, would make it up together.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

from omni.checkpoint.json_file import read_json
from omni.errors import CheckpointError, InputError
from omni.prompt.sandbox import Meter, TemplateLimit, metered
from omni.prompt.template_program import LONGEST_SOURCE, Program, compile_template
from omni.prompt.tokenizer import ControlTokens
from processors.io.limits import DEFAULT_LIMITS, Limits

# Unicode's private use areas: no text needs them, and a mark must be a character that the messages do not hold.
PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
_ADDRESS = re.compile(r"( at)? 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation.

    Attributes:
        text: the prompt, with marks in it.
        mark: the character that breaks up control tokens in what users wrote.
    """

    text: str
    mark: str

    @property
    def plain(self) -> str:
        """The prompt as people read it, without marks."""
        return self.text.replace(self.mark, "")

    def cut(self, characters: Sequence[int]) -> list[str]:
        """The marked text in pieces: up to so many unmarked characters each time, and what is left."""
        pieces, start, seen = [], 0, 0
        for end in characters:
            at = start
            while seen < end and at < len(self.text):
                seen += self.text[at] != self.mark
                at += 1
            pieces.append(self.text[start:at])
            start = at
        return [*pieces, self.text[start:]]


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja source.
        named_tokens: texts of tokens that templates know by name, such as `eos_token`.
        limits: time and output of a rendering that brings no limits of its own.

    Attributes:
        source: Jinja source.
        named_tokens: texts of tokens that templates know by name.
        program: the template, and what its source tells of it.

    Raises:
        CheckpointError: the source is not a template, or is longer or deeper than any that are used.
    """

    def __init__(self, source: str, named_tokens: Mapping[str, str] | None = None, *, limits: Limits = DEFAULT_LIMITS):
        self.source: str = source
        self.named_tokens: dict[str, str] = dict(named_tokens or {})
        self._limits = limits
        self.program: Program = compile_template(source)

    @classmethod
    def from_directory(
        cls, directory: str | PathLike[str], default: str = "omni.jinja", *, limits: Limits = DEFAULT_LIMITS
    ) -> "ChatTemplate":
        """The template of a checkpoint directory.

        Args:
            directory: where chat_template.jinja, chat_template.json or tokenizer_config.json may hold one.
            default: file name in omni/assets/templates of the family's own, for a directory that has none.
            limits: time and output of renderings.

        Raises:
            CheckpointError: a file is damaged, or holds several templates and none named `default`.
        """
        path = Path(directory)
        named_tokens = _named_tokens(read_json(path / "tokenizer_config.json", required=False))
        own = path / "chat_template.jinja"
        if own.is_file():
            if own.stat().st_size > 4 * LONGEST_SOURCE:
                raise CheckpointError("chat_template.jinja is longer than any template", code="bad_template")
            try:
                return cls(own.read_text("utf-8"), named_tokens, limits=limits)
            except UnicodeDecodeError as error:
                raise CheckpointError(f"chat_template.jinja is not UTF-8 text: {error}", code="bad_template") from error
        for name in ("chat_template.json", "tokenizer_config.json"):
            found = read_json(path / name, required=False).get("chat_template")
            if found:
                return cls(_default_of(found, name), named_tokens, limits=limits)
        family = (files("omni") / "assets" / "templates" / default).read_text("utf-8")
        return cls(family, named_tokens, limits=limits)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        control_tokens: Mapping[str, int],
        *,
        add_generation_prompt: bool = True,
        limits: Limits | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """Renders a conversation.

        Args:
            messages: roles and contents, media as parts without their data.
            control_tokens: the tokenizer's; in an assistant's messages those that are not special stay what they are,
                since the model wrote them.
            add_generation_prompt: end with the opening of the assistant's turn.
            limits: how long it may take and how much it may write; those of the template when None.
            tools: declarations of functions.
            variables: what else the template reads, by names.

        Raises:
            InputError: `template_error`, when the template refuses the conversation or fails; `template_limit`, when
                it takes more time, steps or memory, or writes more, than it may.
        """
        tools, variables = list(tools), dict(variables or {})
        mark = unused_character(chain([self.source], strings([*messages, tools, variables])))
        special = control_tokens.special if isinstance(control_tokens, ControlTokens) else frozenset(control_tokens)
        guard = _Guard(tuple(control_tokens), frozenset(control_tokens) - special, mark)
        limits = limits or self._limits
        texts = [len(text) for text in strings([*messages, tools])]
        guarded = [guard.message(message) for message in messages]
        # Templates copy what they are given, some of them all that came before for each message.
        meter = Meter(limits.template_seconds, limits.template_characters, 4 * sum(texts) * (16 + len(texts)))
        try:
            text = self._run(
                meter,
                messages=guarded,
                add_generation_prompt=add_generation_prompt,
                tools=guard.value(tools) or None,
                documents=None,
                **self.named_tokens,
                **guard.value(variables),
            )
        except TemplateLimit as error:
            raise InputError("template_limit", f"the chat template was stopped: {error}") from None
        except Exception as error:
            # A template is a program from a checkpoint: it can fail in any way. Object addresses are not for users.
            reason = " ".join(_ADDRESS.sub("", str(error)[:1000]).replace(mark, "").split()) or type(error).__name__
            reason = reason.encode("utf-8", "replace").decode("utf-8")
            raise InputError("template_error", f"the chat template refused the conversation: {reason}") from None
        # `tojson(ensure_ascii=true)` writes the mark as an escape.
        return Rendered(text.replace(escape(mark), mark), mark)

    def _run(self, meter: Meter, **variables: Any) -> str:
        pieces, template = [], self.program.template
        with metered(meter):
            for piece in template.root_render_func(template.new_context(variables)):
                meter.write(piece)
                pieces.append(piece)
        return "".join(pieces)


class MediumPart(dict[str, Any]):
    """A medium in a message, as templates read it, that writes down when one looks at it.

    Args:
        part: its type, and the key of that name.
        index: which medium it is.
        seen: where that is written.
    """

    def __init__(self, part: Mapping[str, Any], index: int, seen: list[int]):
        super().__init__(part)
        self._look = lambda: seen.append(index)

    def __getitem__(self, key: str) -> Any:
        self._look()
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._look()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._look()
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        """As a dict's."""
        self._look()
        return super().get(key, default)

    def keys(self) -> Any:
        """As a dict's."""
        self._look()
        return super().keys()

    def values(self) -> Any:
        """As a dict's."""
        self._look()
        return super().values()

    def items(self) -> Any:
        """As a dict's."""
        self._look()
        return super().items()


class _Guard:
    """Puts marks into what users wrote.

    A control token that holds a character of a user's string either begins in that string, or begins in the template's
    text and goes on with the string's beginning. The first is broken behind its first character, the second before the
    string's beginning; white space there does not count, for templates strip it.
    """

    def __init__(self, control_tokens: tuple[str, ...], written: frozenset[str], mark: str):
        self._mark = mark
        first = "[" + "".join(sorted({re.escape(token[0]) for token in control_tokens})) + "]"
        own = "|".join(map(re.escape, sorted(written, key=len, reverse=True)))
        self._any = re.compile(first if control_tokens else "(?!)")
        self._not_written = re.compile(f"(?!{own}){first}") if own else self._any
        self._tails = tuple({token[i:] for token in control_tokens for i in range(1, len(token))})
        self._longest = max(map(len, self._tails), default=0)

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of a message with every string guarded but its role and the types of its parts."""
        beginnings = self._not_written if message.get("role") == "assistant" else self._any
        guarded = self._walk({key: value for key, value in message.items() if key != "role"}, beginnings)
        content = message.get("content")
        if isinstance(content, list | tuple):
            guarded["content"] = [self._part(part, beginnings) for part in content]
        return {"role": message.get("role"), **guarded}

    def value(self, value: Any) -> Any:
        """A copy of a value that is no message with every string guarded."""
        return self._walk(value, self._any)

    def _part(self, part: Any, beginnings: re.Pattern[str]) -> Any:
        if isinstance(part, MediumPart):
            return part  # it holds nothing of a user's
        guarded = self._walk(part, beginnings)
        return guarded | {"type": part["type"]} if isinstance(part, Mapping) and "type" in part else guarded

    def _walk(self, value: Any, beginnings: re.Pattern[str]) -> Any:
        if isinstance(value, str):
            return self._string(value, beginnings)
        if isinstance(value, MediumPart):
            return value
        if isinstance(value, Mapping):
            return {
                self._key(key, beginnings) if isinstance(key, str) else key: self._walk(inner, beginnings)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._walk(inner, beginnings) for inner in value]
        return value

    def _key(self, key: str, beginnings: re.Pattern[str]) -> str:
        # Templates look keys up by name, and a name such as "text" may occur within a control token.
        return self._string(key, beginnings, within=not key.isidentifier())

    def _string(self, text: str, beginnings: re.Pattern[str], *, within: bool = True) -> str:
        guarded = beginnings.sub(lambda found: found.group() + self._mark, text)
        body = text.strip()
        if not body:
            return guarded
        within = within and len(body) < self._longest and any(tail.startswith(body) for tail in self._tails)
        if within or body.startswith(self._tails):
            at = len(guarded) - len(guarded.lstrip())
            guarded = guarded[:at] + self._mark + guarded[at:]
        return guarded


def strings(value: Any) -> Iterator[str]:
    """Every string inside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, MediumPart):
        yield from dict.keys(value)
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(strings(inner) for item in value.items() for inner in item)
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(strings, value))


def escape(character: str) -> str:
    """As JSON writes it in ASCII."""
    return json.dumps(character)[1:-1]


def unused_character(strings: Iterable[str]) -> str:
    """Return a character of private use that none of the texts holds, as it is or as JSON escapes it."""
    text = "\n".join(strings)
    used = set(text)
    free = (chr(code) for code in chain(*PRIVATE_USE) if chr(code) not in used)
    found = next((character for character in free if escape(character) not in text), None)
    if found is None:
        raise InputError("bad_text", "the messages hold every private-use character of Unicode")
    return found


def _default_of(templates: Any, file: str) -> str:
    """One template of a file that holds one, or several by name."""
    if isinstance(templates, list) and all(isinstance(entry, Mapping) for entry in templates):
        templates = {str(entry.get("name")): entry.get("template") for entry in templates}
    if isinstance(templates, Mapping):
        if "default" not in templates:
            message = f"{file} has the chat templates {', '.join(templates)}, and none named default"
            raise CheckpointError(message, code="bad_template")
        templates = templates["default"]
    if not isinstance(templates, str):
        raise CheckpointError(f"{file}: chat_template must be a string or a list of named ones", code="bad_template")
    return templates


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Entries of tokenizer_config.json such as `eos_token`: a text, or a token with its flags."""
    tokens = {key: value for key, value in config.items() if key.endswith("_token")}
    texts = {key: value.get("content") if isinstance(value, Mapping) else value for key, value in tokens.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}
