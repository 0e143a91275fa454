"""Prompts as a caller asks for them: a conversation rendered whole, with its tools, up to where the reply begins."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from omni.errors import InputError
from omni.prompt.completeness import render_whole
from omni.prompt.prompt_options import PromptOptions
from omni.prompt.reasoning import opens_thought, teaches_thinking
from omni.prompt.reply_stream import ReplyFormat
from omni.prompt.template import ChatTemplate, Rendered, strings, unused_character
from omni.prompt.tokenizer import ControlTokens
from omni.prompt.tool_calls import form_of
from processors.io.limits import Limits


def render_prompt(
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    control_tokens: ControlTokens,
    *,
    add_generation_prompt: bool = True,
    placeholders: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    options: PromptOptions | None = None,
) -> tuple[Rendered, ReplyFormat]:
    """Render a conversation; returns the prompt, and what a reply to it may hold.

    Args:
        template: the checkpoint's.
        messages: as `parse` gives them.
        control_tokens: the tokenizer's.
        add_generation_prompt: end with the opening of the assistant's turn.
        placeholders: the control token that stands for a medium of each kind.
        limits: of the template; its own when None.
        options: tools, and what else the template reads.

    Raises:
        InputError: `no_tools`; `unknown_template_option`; `bad_continuation`; `dropped_content`, the template leaves
            something out; `media_order`; `template_error` or `template_limit`.
    """
    options = options or PromptOptions()
    options.check(template.program, template.source, template.named_tokens)
    if options.continue_final_message:
        _check_final(messages[-1])
        add_generation_prompt = False
    rendered, form = render_whole(
        template,
        messages,
        control_tokens,
        add_generation_prompt=add_generation_prompt,
        placeholders=placeholders,
        limits=limits,
        tools=options.tools,
        variables=options.variables,
    )
    _check_tools(rendered.plain, options.tools)
    if options.continue_final_message:
        rendered = _without_end(template, form, control_tokens, limits, options)
    format = ReplyFormat(
        teaches_thinking(template.source),
        opens_thought(rendered.text, tuple(control_tokens.special)),
        form_of(template.source) if options.tools else None,
        options.tools,
        options.choice,
    )
    return rendered, format


def _check_final(message: Mapping[str, Any]) -> None:
    if message["role"] != "assistant" or message.get("tool_calls"):
        raise InputError(
            "bad_continuation", "continue_final_message needs an assistant's message without calls as the last one"
        )
    if not isinstance(message["content"], str) and any(part["type"] != "text" for part in message["content"]):
        raise InputError("bad_continuation", "a last message that the reply goes on with holds text alone")


def _check_tools(plain: str, tools: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a template that leaves out a name or a description."""
    for number, tool in enumerate(tools, 1):
        for text in (tool["function"]["name"], *_descriptions(tool)):
            forms = (text.strip(), json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
            if not any(form in plain for form in forms):
                raise InputError(
                    "dropped_content", f"the checkpoint's chat template leaves out {text[:80]!r} of tool {number}"
                )


def _descriptions(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "description" and isinstance(inner, str):
                yield inner
            else:
                yield from _descriptions(inner)
    elif isinstance(value, list):
        yield from chain.from_iterable(map(_descriptions, value))


def _without_end(
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    control_tokens: ControlTokens,
    limits: Limits | None,
    options: PromptOptions,
) -> Rendered:
    """The prompt up to the end of the last message's text: a sign is put there, and looked for."""
    sign = unused_character(chain([template.source], strings([*messages, list(options.tools), options.variables])))
    final = messages[-1]
    content = final["content"]
    if isinstance(content, str) or not content:
        marked: Any = (content or "") + sign if isinstance(content, str) else [{"type": "text", "text": sign}]
    else:
        marked = [*content[:-1], {**content[-1], "text": content[-1]["text"] + sign}]
    rendered = template.render(
        [*messages[:-1], {**final, "content": marked}],
        control_tokens,
        add_generation_prompt=False,
        limits=limits,
        tools=options.tools,
        variables=options.variables,
    )
    before, found, after = rendered.text.partition(sign)
    if not found or sign in after:
        raise InputError("bad_continuation", "the checkpoint's chat template does not write the last message once")
    return Rendered(before, rendered.mark)
