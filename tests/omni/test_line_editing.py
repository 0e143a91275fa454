"""Typed lines: names are completed, and a history is kept where nobody else reads it."""

import stat
from types import SimpleNamespace

import pytest

from omni.cli import line_editing

COMMANDS = ["/add", "/help", "/quit"]


class Readline(SimpleNamespace):
    """What Python's readline gives, over a list of typed lines."""

    def __init__(self, line=""):
        self.line, self.lines, self.completer = line, [], None
        self.__doc__ = "GNU readline"

    def get_line_buffer(self):
        return self.line

    def set_completer_delims(self, delimiters):
        self.delimiters = delimiters

    def set_completer(self, completer):
        self.completer = completer

    def parse_and_bind(self, binding):
        self.binding = binding

    def clear_history(self):
        self.lines = []

    def set_history_length(self, length):
        self.most = length

    def read_history_file(self, path):
        self.lines += path.read_text("utf-8").splitlines()

    def write_history_file(self, path):
        path.write_text("\n".join(self.lines[-self.most :]), "utf-8")


@pytest.fixture
def typed(monkeypatch):
    """Types lines into a session, which ends with the end of input."""

    def session(lines, history=None, readline=None):
        readline = readline or Readline()
        waiting = iter(lines)

        def answer(_):
            try:
                line = next(waiting)
            except StopIteration:
                raise EOFError from None
            readline.lines.append(line)
            return line

        monkeypatch.setattr(line_editing, "_readline", lambda: readline)
        monkeypatch.setattr("builtins.input", answer)
        return list(line_editing.read_lines(COMMANDS, history)), readline

    return session


def completions(readline, line):
    readline.line, found = line, []
    while (one := readline.completer(line.split(" ")[-1], len(found))) is not None:
        found.append(one)
    return found


def test_lines_come_without_empty_ones_until_the_end(typed, capsys):
    assert typed(["Hi", "  ", " /help "])[0] == ["Hi", "/help"]
    assert capsys.readouterr().out == "\n"


def test_a_history_joins_sessions_and_is_private(typed, tmp_path):
    history = tmp_path / "states" / "chat_history"
    typed(["one"], history)
    _, second = typed(["two"], history)
    assert second.lines == ["one", "two"] and history.read_text("utf-8") == "one\ntwo"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    typed(["three"])
    assert "three" not in history.read_text("utf-8")


def test_a_history_that_cannot_be_kept_is_no_reason_to_fail(typed, tmp_path):
    (tmp_path / "file").write_text("")
    assert typed(["one"], tmp_path / "file" / "history")[0] == ["one"]


def test_commands_and_files_are_completed(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.jpg").touch()
    (tmp_path / "cats").mkdir()
    _, readline = typed([])
    assert completions(readline, "/h") == ["/help "] and completions(readline, "/") == ["/add ", "/help ", "/quit "]
    assert completions(readline, "/add ca") == ["cat.jpg", "cats/"]
    assert completions(readline, "ca") == []


def test_a_python_without_readline_reads_lines_too(typed, monkeypatch):
    session, _ = typed(["Hi"])
    assert session == ["Hi"]
    monkeypatch.setattr(line_editing, "_readline", lambda: None)
    monkeypatch.setattr("builtins.input", lambda _: "Ho")
    assert next(line_editing.read_lines(COMMANDS, None)) == "Ho"
