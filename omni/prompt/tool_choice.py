"""Whether a reply must call tools, and which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omni.errors import InputError, shown


@dataclass(frozen=True)
class ToolChoice:
    """What a caller asks of the calls in a reply.

    Attributes:
        mode: `auto`, as the model sees fit; `none`; or `required`, the reply is calls and nothing else.
        name: of the one function that is to be called, where it is named.
        parallel: whether there may be several calls.
    """

    mode: str = "auto"
    name: str | None = None
    parallel: bool = True

    @classmethod
    def of(cls, choice: Any, parallel: Any, tools: Sequence[Mapping[str, Any]]) -> "ToolChoice":
        """A choice as callers give it.

        Args:
            choice: "auto", "none" or "required"; or `{"type": "function", "function": {"name": ...}}`, the name beside
                the type too; "auto" when None.
            parallel: whether there may be several calls.
            tools: that are declared.

        Raises:
            InputError: `bad_tool_choice`, it is none of these, there is no such tool, or it cannot be followed.
        """
        if not isinstance(parallel, bool):
            raise _refusal(f"parallel_tool_calls must be true or false, got {shown(parallel)}")
        name = None
        if isinstance(choice, Mapping):
            name, choice = _name(choice), "required"
        elif choice is None:
            choice = "auto"
        if choice not in ("auto", "none", "required"):
            raise _refusal(f"tool_choice must be auto, none, required or name a function, got {shown(choice)}")
        if choice == "required" and not tools:
            raise _refusal("tool_choice asks for a call, and no tools are declared")
        names = [tool["function"]["name"] for tool in tools]
        if name is not None and name not in names:
            listed = ", ".join(names)[:200]
            raise _refusal(f"tool_choice names {name[:80]!r}, and the tools are {listed}")
        if choice == "auto" and tools and not parallel:
            raise _refusal(
                "parallel_tool_calls is false, which is followed where tool_choice asks for a call; what the model "
                "writes as it sees fit may hold several"
            )
        return cls(choice, name, parallel and name is None)


AUTO = ToolChoice()
"""As the model sees fit."""


def _name(choice: Mapping[str, Any]) -> str:
    """The function that is named, in the form of OpenAI's chats or of its responses."""
    inner = choice.get("function")
    holder = inner if isinstance(inner, Mapping) else choice
    beside = set(choice) - {"type", "function" if holder is inner else "name"}
    if choice.get("type") != "function" or beside or not isinstance(holder.get("name"), str):
        raise _refusal('a named tool_choice must be {"type": "function", "function": {"name": ...}}')
    return holder["name"]


def _refusal(message: str) -> InputError:
    return InputError("bad_tool_choice", message)
