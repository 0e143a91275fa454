"""The command line does its work, and says in one line what it cannot do."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import omni
from omni.cli import main

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs `omni ...` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["omni", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_encode_files(run):
    code, out, _ = run("encode", SAMPLES / "china.jpg", SAMPLES / "speech.flac", "-o", "e")
    assert code == 0 and "2 encoded" in out and "a second" in out and "programs compiled" in out
    embedding = omni.Embedding.load("e/china.jpg.safetensors")
    np.testing.assert_allclose(embedding.tokens, omni.load("demo").encode(SAMPLES / "china.jpg").tokens, atol=1e-2)


def test_a_folder_in_several_goes_with_a_bad_file(run, tmp_path):
    folder = tmp_path / "photos" / "inner"
    folder.mkdir(parents=True)
    for i in range(3):
        PIL.Image.new("RGB", (40 + i, 50), (i, 9, 9)).save(folder / f"{i}.png")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, out, err = run("encode", "photos", "-o", "e")
    assert code == 2 and "3 encoded" in out
    lines = [line for line in err.splitlines() if "bad.png" in line]
    assert len(lines) == 1
    assert sorted(p.name for p in Path("e/inner").iterdir()) == [f"{i}.png.safetensors" for i in range(3)]
    code, out, _ = run("encode", "photos", "-o", "e")
    assert "3 of 4 are there already" in out and "0 encoded" in out


def test_inspect(run):
    code, out, _ = run("inspect", SAMPLES / "china.jpg", SAMPLES / "speech.flac", "-o", "p")
    assert code == 0
    paths = out.split()
    assert len(paths) == 3
    for path in paths:
        assert np.asarray(PIL.Image.open(path)).std() > 10


def test_info(run):
    code, out, _ = run("info")
    assert code == 0
    for word in ("Qwen3-Omni", "vision", "audio", "text", "weights in bfloat16"):
        assert word in out


def test_chat_once(run):
    code, out, err = run(
        "chat", SAMPLES / "china.jpg", "--say", "What is this?", "--max-new-tokens", "4", "--seed", "1"
    )
    assert code == 0 and out.strip()
    assert "untrained" in err


def test_chat_by_turns(run, monkeypatch):
    said = iter(["Hello.", f"/add {SAMPLES / 'china.jpg'}", "And this?", "/add absent.jpg", "And that?", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(said))
    code, _, err = run("chat", "--max-new-tokens", "3")
    assert code == 0
    assert sum("absent.jpg" in line for line in err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode",),
        ("encode", "absent.jpg"),
        ("inspect",),
        ("inspect", "absent.jpg"),
        ("info", "--model", "no/such/thing/at all"),
        ("chat", "absent.jpg", "--say", "Hi"),
        ("chat", "--say", "Hi", "--temperature", "-1"),
        ("chat", "--model", "."),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.strip()]) == 1


@pytest.mark.parametrize("command", ["chat", "encode", "inspect", "info"])
def test_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and "--model" in out
