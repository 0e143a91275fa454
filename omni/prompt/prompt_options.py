"""What a caller chooses about a prompt: tools, variables of the template, and whether the last message goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omni.errors import InputError, shown
from omni.prompt.parts import kind_of
from omni.prompt.plain import Plain, as_mapping
from omni.prompt.template_program import Program
from omni.prompt.tool_calls import form_of
from omni.prompt.tool_choice import AUTO, ToolChoice

# What templates are given besides, and no caller sets.
_RESERVED = frozenset(("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"))


@dataclass(frozen=True, eq=False)
class PromptOptions:
    """How a conversation is rendered.

    Attributes:
        tools: declarations of functions in OpenAI's form.
        variables: what the template reads beside messages and tools, such as `enable_thinking`.
        continue_final_message: the reply goes on with the last message, an assistant's.
        choice: whether the reply must call tools.
    """

    tools: tuple[dict[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    continue_final_message: bool = False
    choice: ToolChoice = AUTO

    @classmethod
    def of(
        cls,
        tools: Any = None,
        template_options: Any = None,
        continue_final_message: Any = False,
        tool_choice: Any = None,
        parallel_tool_calls: Any = True,
    ) -> "PromptOptions":
        """Options as callers give them, checked and copied; tools that may not be called are not declared.

        Raises:
            InputError: `bad_tools`, `bad_tool_choice`, `bad_template_options`, `bad_continuation`.
        """
        if not isinstance(continue_final_message, bool):
            raise InputError(
                "bad_continuation", f"continue_final_message must be true or false, got {shown(continue_final_message)}"
            )
        declared = _tools(tools)
        choice = ToolChoice.of(tool_choice, parallel_tool_calls, declared)
        if choice.mode == "none":
            declared = ()
        return cls(declared, _variables(template_options), continue_final_message, choice)

    @property
    def any(self) -> bool:
        """Whether anything is chosen at all."""
        return bool(self.tools or self.variables or self.continue_final_message)

    def check(self, program: Program, source: str, named_tokens: Mapping[str, str]) -> None:
        """Refuse what a template would not read.

        Raises:
            InputError: `no_tools`, `unknown_template_option`.
        """
        if self.tools and ("tools" not in program.variables or form_of(source) is None):
            raise InputError("no_tools", "the checkpoint's chat template has no tools, or none in a form that is known")
        readable = program.variables - _RESERVED - named_tokens.keys()
        for name in self.variables:
            if name not in readable:
                raise InputError(
                    "unknown_template_option",
                    f"the checkpoint's chat template never reads {name[:40]!r}; it reads "
                    f"{', '.join(sorted(readable))[:200] or 'no options'}",
                )


def _tools(tools: Any) -> tuple[dict[str, Any], ...]:
    if tools is None:
        return ()
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise InputError("bad_tools", f"tools must be a list of dicts, got {kind_of(tools)}")
    plain = Plain()
    found = tuple(_tool(as_mapping(tool), plain) for tool in tools)
    names = [tool["function"]["name"] for tool in found]
    if len(set(names)) < len(names):
        raise InputError("bad_tools", "two tools have the same name")
    return found


def _tool(tool: Any, plain: Plain) -> dict[str, Any]:
    """A declaration in OpenAI's form; the form of its Responses API has all beside the type."""
    if not isinstance(tool, Mapping) or tool.get("type", "function") != "function":
        raise InputError("bad_tools", "a tool must be a dict of type function")
    try:
        copied = plain.copy(tool, "a tool")
    except InputError as error:
        raise InputError("bad_tools", str(error)) from None
    function = copied.get("function")
    if function is None:
        function = {key: value for key, value in copied.items() if key != "type"}
        copied = {"type": "function", "function": function}
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise InputError("bad_tools", "a tool must have a function with a name")
    for key, kind in (("description", str), ("parameters", dict)):
        if function.get(key) is not None and not isinstance(function[key], kind):
            raise InputError(
                "bad_tools", f"the {key} of a tool must be a {kind.__name__}, got {kind_of(function[key])}"
            )
    return {"type": "function", **copied}


def _variables(options: Any) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InputError("bad_template_options", f"template_options must be a dict by names, got {kind_of(options)}")
    reserved = sorted(_RESERVED.intersection(options))
    if reserved:
        raise InputError("bad_template_options", f"{reserved[0]} is no option of a template: it is an argument")
    try:
        return Plain().copy(options, "template_options")
    except InputError as error:
        raise InputError("bad_template_options", str(error)) from None
