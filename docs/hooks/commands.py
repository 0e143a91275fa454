"""Pages of the command line, from the commands themselves."""

from typing import Any

from typer.main import get_command

from omni.cli import app


def commands() -> dict[str, Any]:
    """Name -> command, in the order of `omni --help`."""
    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def options_of(command: Any) -> dict[str, Any]:
    """Each spelling of an option -> the option, `--help` included."""
    spelled = {name: param for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return {name: param for name, param in spelled.items() if name.startswith("-")} | {"--help": None}


def usage(name: str, command: Any) -> str:
    """One line, such as `omni train [OPTIONS] DATA`."""
    arguments = []
    for param in command.params:
        if param.param_type_name != "argument":
            continue
        word = param.name.upper() + ("..." if param.nargs == -1 else "")
        arguments.append(word if param.required else f"[{word}]")
    return " ".join(["omni", name, "[OPTIONS]", *arguments])


def _cell(text: Any) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _default(param: Any) -> str:
    if param.required:
        return "required"
    value = None if callable(param.default) else param.default
    if value in (None, "", (), []):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{_cell(value)}`"


def reference(name: str, command: Any) -> str:
    """Usage, purpose and every option of a command, as Markdown."""
    lines = [
        "## Usage",
        f"```text\n{usage(name, command)}\n```",
        " ".join((command.help or "").replace("\f", "").split()),
    ]
    rows = ["| Argument or option | | Default |", "|---|---|---|"]
    for param in command.params:
        if param.name in ("help", "install_completion", "show_completion"):
            continue
        is_argument = param.param_type_name == "argument"
        names = [param.name.upper()] if is_argument else [*param.opts, *param.secondary_opts]
        spelled = ", ".join(f"`{spelling}`" for spelling in names)
        rows.append(f"| {spelled} | {_cell(param.help or '')} | {_default(param)} |")
    return "\n\n".join([*lines, "\n".join(rows)]) + "\n"


def overview() -> str:
    """The page that lists all commands."""
    rows = ["| Command | |", "|---|---|"]
    for name, command in commands().items():
        purpose = (command.help or "").strip().split("\n\n")[0]
        rows.append(f"| [`omni {name}`]({name}.md) | {_cell(purpose)} |")
    about = "Every command takes `--help`. Bad input is one line on stderr and exit code 2; Ctrl-C is exit code 130."
    return "# Commands\n\n" + "\n".join(rows) + f"\n\n{about}\n"
