"""The command line does its work, and says in one line what it cannot do."""

import base64
import html
import html.parser
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import omni
from omni.checkpoint.training_run import TrainingRun, write_run
from omni.cli import main
from omni.cli.interruption import interruption
from omni.cli.progress import progress
from omni.cli.train import forget_after
from omni.loading import find_directory
from tests.golden import media
from tests.golden.load import relative_error

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"


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


@pytest.fixture
def tiny(monkeypatch, model, tiny_checkpoint):
    """The path of the tiny checkpoint, which commands find loaded already."""
    load = omni.load
    monkeypatch.setattr(
        omni, "load", lambda name, **options: model if name == str(tiny_checkpoint) else load(name, **options)
    )
    return tiny_checkpoint


@pytest.fixture
def photos(tmp_path):
    """Three pictures and a broken one in a tree."""
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    for i, name in enumerate(("0.png", "inner/1.png", "inner/2.jpg")):
        PIL.Image.new("RGB", (40 + i, 50), (i, 9, 9)).save(folder / name)
    (folder / "inner" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / ".hidden").write_text("no picture")
    (folder / "inner" / "notes.txt").write_text("no picture")
    return folder


def written(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


# --- encode -----------------------------------------------------------------------------------------------------------


def test_encode_files(run, model, tiny):
    code, out, err = run("encode", SAMPLES / "china.jpg", SAMPLES / "speech.flac", "-o", "e", "-m", tiny)
    assert code == 0 and not err
    assert "2 encoded" in out and "a second" in out and "programs compiled" in out
    assert written("e") == ["china.jpg.safetensors", "speech.flac.safetensors"]
    for name in ("china.jpg", "speech.flac"):
        found, wanted = omni.Embedding.load(f"e/{name}.safetensors"), model.encode(SAMPLES / name)
        assert (found.kind, found.grid_thw) == (wanted.kind, wanted.grid_thw)
        assert relative_error(found.tokens, wanted.tokens) < 1e-5


def test_a_folder_in_several_goes(run, tiny, photos):
    code, out, err = run("encode", "photos", "-o", "e", "-m", tiny)
    assert code == 2 and "3 encoded" in out and "no media: 1" in out
    assert len(lines(err)) == 1 and lines(err)[0].startswith("photos/inner/bad.png: ")
    assert written("e") == ["0.png.safetensors", "inner/1.png.safetensors", "inner/2.jpg.safetensors"]
    Path("e/inner/1.png.safetensors").unlink()
    before = Path("e/0.png.safetensors").stat().st_mtime_ns
    (photos / "inner" / "bad.png").unlink()
    code, out, _ = run("encode", "photos", "-o", "e", "-m", tiny)
    assert code == 0 and "2 of 3 are there already" in out and "1 encoded" in out and "no media: 1" in out
    assert Path("e/0.png.safetensors").stat().st_mtime_ns == before and len(written("e")) == 3
    code, out, _ = run("encode", "photos", "-o", "e", "-m", tiny, "--overwrite")
    assert code == 0 and "3 encoded" in out and Path("e/0.png.safetensors").stat().st_mtime_ns > before


@pytest.mark.parametrize("out", ["photos", "photos/embeddings", "."])
def test_embeddings_beside_the_pictures(run, tiny, photos, out):
    """What an earlier go has written is not taken for media."""
    (photos / "inner" / "bad.png").unlink()
    assert run("encode", "photos", "-o", out, "-m", tiny)[:2][0] == 0
    code, said, _ = run("encode", "photos", "-o", out, "-m", tiny)
    assert code == 0 and "3 of 3 are there already" in said
    assert len(list(Path(out).rglob("*.safetensors"))) == 3


def test_a_file_that_breaks_does_not_stop_the_others(run, tiny, photos):
    png = (photos / "0.png").read_bytes()
    for i in range(9):
        (photos / f"cut{i}.png").write_bytes(png[: -20 - i])
    code, out, err = run("encode", "photos", "absent.jpg", "-o", "e", "-m", tiny, "--batch-size", "2")
    assert code == 2 and "3 encoded" in out
    assert len(lines(err)) == 11 and all(": " in line for line in lines(err))


def test_data_uris_and_names_that_clash(run, tiny, photos):
    uri = "data:image/png;base64," + base64.b64encode((photos / "0.png").read_bytes()).decode()
    assert run("encode", uri, "-o", "e", "-m", tiny)[0] == 0 and written("e") == ["data.safetensors"]
    shutil.copy(photos / "inner" / "1.png", photos / "inner" / "0.png")
    for _ in range(2):
        code, out, _ = run("encode", "photos/0.png", "photos/inner/0.png", "-o", "f", "-m", tiny)
        first, second = (omni.Embedding.load(f"f/{name}") for name in sorted(written("f"), reverse=True))
        assert code == 0 and len(written("f")) == 2 and not np.array_equal(first.tokens, second.tokens)
    assert "2 of 2 are there already" in out


def test_a_changed_file_or_another_checkpoint_is_encoded_again(run, tiny, photos, tmp_path):
    (photos / "inner" / "bad.png").unlink()
    assert run("encode", "photos", "-o", "e", "-m", tiny)[0] == 0
    before = omni.Embedding.load("e/0.png.safetensors").tokens
    shutil.copy(photos / "inner" / "1.png", photos / "0.png")
    code, out, _ = run("encode", "photos", "-o", "e", "-m", tiny)
    assert code == 0 and "2 of 3 are there already" in out and "1 encoded" in out
    assert not np.array_equal(omni.Embedding.load("e/0.png.safetensors").tokens, before)
    other = shutil.copytree(tiny, tmp_path / "other")
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.4, 0.5, 0.5]}))
    assert "3 encoded" in run("encode", "photos", "-o", "e", "-m", other)[1]
    assert "3 encoded" in run("encode", "photos", "-o", "e", "-m", other, "--dtype", "bfloat16")[1]


def test_a_file_that_is_no_embedding_is_not_replaced(run, tiny, photos):
    Path("e").mkdir()
    Path("e/0.png.safetensors").write_bytes(b"mine")
    code, out, _ = run("encode", "photos/0.png", "-o", "e", "-m", tiny)
    assert code == 0 and "1 encoded" in out and len(written("e")) == 2
    assert Path("e/0.png.safetensors").read_bytes() == b"mine"
    assert "1 of 1 are there already" in run("encode", "photos/0.png", "-o", "e", "-m", tiny)[1]


@pytest.mark.parametrize("name", ["m" * 251, "é" * 125, "a\nb", "\udcff\udcfe", " ", "-x", "%00", "a" * 239])
def test_no_name_of_a_file_stops_a_folder(run, tiny, photos, name):
    (photos / "inner" / "bad.png").unlink()
    shutil.copy(photos / "0.png", photos / f"{name}.png")
    code, out, err = run("encode", "photos", "-o", "e", "-m", tiny)
    assert code == 0 and "4 encoded" in out and len(written("e")) == 4, err
    assert "4 of 4 are there already" in run("encode", "photos", "-o", "e", "-m", tiny)[1]
    (photos / f"{name}.png").write_bytes(b"no picture any more")
    code, _, err = run("encode", "photos", "-o", "e", "-m", tiny)
    assert code == 2 and "not an image" in err


@pytest.mark.parametrize(
    "source", ["http://127.0.0.1:9/" + "x" * 3000, "https://h/?" + "q" * 300, "data:image/png;base64,AAAA"]
)
def test_no_source_is_too_odd_for_a_name(run, tiny, photos, source):
    code, out, err = run("encode", source, "photos/0.png", "-o", "e", "-m", tiny)
    assert code == 2 and "1 encoded" in out and written("e") == ["0.png.safetensors"]
    assert len(lines(err)) == 1 and len(err) < 4000


def test_ctrl_c_ends_the_program_at_once(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = [
        sys.executable,
        "-c",
        "from omni.cli import program; program()",
        "encode",
        *["photos/0.png"] * 20_000,
        "-o",
        "e",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=environment)
    while not Path("e").exists():
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in err
    assert not list(Path("e").rglob("*.part"))


# --- inspect ----------------------------------------------------------------------------------------------------------


def test_inspect_shows_the_picture(run, tiny):
    PIL.Image.fromarray(media.image("small")).save("small picture.png")
    code, out, _ = run("inspect", "small picture.png", SAMPLES / "speech.flac", "-o", "p", "-m", tiny)
    assert code == 0
    assert lines(out) == [
        "p/00-small-picture.png-patches.png",
        "p/01-speech.flac-spectrogram.png",
        "p/02-tokens.png",
        "p/03-similarity.png",
    ]
    for path in lines(out):
        with PIL.Image.open(path) as picture:
            assert picture.format == "PNG" and picture.width >= 400


class Page(html.parser.HTMLParser):
    """What a page names, and whether its elements are closed in turn."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_inspect_writes_one_page_that_asks_for_nothing(run, tiny):
    name = "<img src=x onerror=alert(1)>$x^{&.png"
    PIL.Image.fromarray(media.image("small")).save(name)
    code, out, _ = run("inspect", name, "--html", "-o", "p", "-m", tiny)
    assert code == 0 and lines(out) == ["p/index.html"] and len(list(Path("p").iterdir())) == 1
    text = Path("p/index.html").read_text(encoding="utf-8")
    page = Page(text)
    # A light and a dark version of patches and tokens.
    assert page.open == [] and page.tags.count("img") == page.tags.count("source") == 2
    assert len(set(page.addresses)) == 4
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "script" not in page.tags and "://" not in text
    assert html.escape(name) in text and name not in text


def test_inspect_says_what_drawing_needs(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "omni.tools.inspect", None)
    monkeypatch.delitem(sys.modules, "omni.tools.drawing.page", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "processors.drawing.picture", raising=False)
    code, _, err = run("inspect", "a.jpg")
    assert code == 2 and lines(err) == ['omni: drawing needs more: pip install "omni-jax[draw]"']


def test_inspect_a_data_uri(run, tiny):
    uri = "data:image/png;base64," + base64.b64encode((SAMPLES / "china.jpg").read_bytes()).decode()
    code, out, _ = run("inspect", uri, "-o", "p", "-m", tiny)
    assert code == 0 and lines(out)[0] == "p/00-medium-1-patches.png"


# --- info -------------------------------------------------------------------------------------------------------------


def test_info_reads_no_weights(run, monkeypatch):
    monkeypatch.setattr(
        "omni.checkpoint.safetensors.StoredTensor.array", property(lambda _: pytest.fail("weights were read"))
    )
    monkeypatch.setattr("omni.checkpoint.safetensors.StoredTensor.read", lambda *_: pytest.fail("weights were read"))
    code, out, _ = run("info", "demo", "--mesh", "data=2,tensor=2", "--context", "64")
    assert code == 0 and "exact, for 1 x 64 tokens" in out and "on each of 4 devices" in out
    code, out, _ = run("info")
    assert code == 0
    for word in ("demo: Qwen3-Omni", "vision", "audio", "text", "weights in bfloat16", "cache of 1,000 tokens"):
        assert word in out


def test_info_counts_the_parameters(run, tiny_checkpoint):
    from tests.golden import tiny as checkpoint

    _, out, _ = run("info", "--model", tiny_checkpoint)
    count = sum(value.size for _, value in checkpoint.tensors())
    assert f"{count / 1e6:.2f} M" in next(line for line in out.splitlines() if line.startswith("total"))


def test_commands_about_a_checkpoint_take_it_alike(run):
    assert run("info", "demo")[1] == run("info", "--model", "demo")[1] == run("info")[1]
    code, _, err = run("info", "demo", "--model", "other")
    assert code == 2 and len(lines(err)) == 1 and "two checkpoints" in err
    for arguments in (("verify", "--model", ".", "--record", "r"), ("eval", ".", "a.jsonl"), ("warmup", "-m", ".")):
        code, _, err = run(*arguments)
        assert code == 2 and len(lines(err)) == 1, arguments


def test_eval_takes_the_checkpoint_as_an_option(run):
    code, _, err = run("eval", "--model", "demo", "absent.jsonl")
    assert code == 2 and "absent.jsonl" in err


def test_the_package_runs_as_the_command():
    result = subprocess.run([sys.executable, "-m", "omni", "--version"], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout) == (0, f"omni {omni.__version__}\n")


def test_version(run):
    assert run("--version") == (0, f"omni {omni.__version__}\n", "")


@pytest.mark.parametrize(
    "words, wanted",
    [("omni ch", "chat"), ("omni war", "warmup"), ("omni info de", "demo"), ("omni chat --dtype bf", "bfloat16")],
)
def test_the_shell_completes(run, monkeypatch, words, wanted):
    monkeypatch.setenv("_OMNI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert wanted in run()[1].split()


# --- warmup and doctor ------------------------------------------------------------------------------------------------


def test_warmup_says_what_it_compiled(run, tiny, monkeypatch):
    for name, sizes in (("VISION_LENGTHS", (16,)), ("AUDIO_ROWS", (1,)), ("AUDIO_CHUNKS", (1,))):
        monkeypatch.setattr(f"encoders.buckets.{name}", sizes)
    code, out, _ = run("warmup", tiny, "--max-pixels", 64 * 16 * 16)
    parts = [line.split()[0] for line in lines(out)[:-1]]
    assert code == 0 and parts.count("vision") == 2 and 1 <= parts.count("audio") <= 2 and parts.count("text") >= 3
    assert all(" s" in line for line in lines(out)) and "programs in" in lines(out)[-1]


# --- chat -------------------------------------------------------------------------------------------------------------


def test_chat_once(run, model, tiny):
    options = ("--max-new-tokens", "6", "--temperature", "0", "--system", "You are terse.")
    code, out, err = run("chat", SAMPLES / "china.jpg", "--say", "What is this?", "-m", tiny, *options)
    assert code == 0 and not err
    chat = model.chat(system="You are terse.", max_new_tokens=6, temperature=0.0)
    assert out == chat.send("What is this?", SAMPLES / "china.jpg").text + "\n"


def test_chat_repeats_with_a_seed(run, tiny):
    options = ("--max-new-tokens", "6", "--temperature", "1", "-m", tiny, "--say", "Hi")
    one, same, other = (run("chat", *options, "--seed", seed)[1] for seed in (1, 1, 2))
    assert one == same != other


def test_an_untrained_demo_says_so(run, tmp_path):
    shutil.copytree(find_directory("demo"), tmp_path / "demo", ignore=shutil.ignore_patterns("*.zip"))
    config = tmp_path / "demo" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"omni_demo": {"trained": False}}))
    for model, notes in (("demo", 0), (tmp_path / "demo", 1)):
        code, out, err = run("chat", "--say", "Hi", "--max-new-tokens", "2", "-m", model)
        assert code == 0 and lines(out)
        assert len(lines(err)) == notes and err.count("untrained") == notes


def test_chat_by_turns(run, tiny, monkeypatch):
    sent = []
    stream = omni.Chat.stream
    monkeypatch.setattr(omni.Chat, "stream", lambda *given: (sent.append(given[1:]), stream(*given))[1])
    china = str(SAMPLES / "china.jpg")
    typed = ["Hello.", "", f"/add {china}", "And this?", "/add absent.jpg", "/add", "/sing", "/help", "And that?"]
    rest = [f"/add {china}", "/drop", "//quit is a command", "/quit", "Never."]
    given = iter(typed + rest)
    monkeypatch.setattr("builtins.input", lambda _: next(given))
    code, out, err = run("chat", SAMPLES / "speech.flac", "-m", tiny, "--max-new-tokens", "3")
    assert code == 0
    speech = omni.Audio(str(SAMPLES / "speech.flac"))
    assert sent == [("Hello.", speech), ("And this?", omni.Image(china)), ("And that?",), ("/quit is a command",)]
    refused = lines(err)
    assert len(refused) == 3 and "absent.jpg" in refused[0] and "/add FILE" in refused[1]
    assert "no command /sing" in refused[2] and "/help" in refused[2]
    assert "/drop" in out and "/add FILE" in out


def test_chat_refuses_absent_media_before_it_loads(run, monkeypatch):
    monkeypatch.setattr(omni, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    code, _, err = run("chat", "absent.jpg")
    assert code == 2 and len(lines(err)) == 1 and "absent.jpg" in err


@pytest.mark.parametrize("leaving", [EOFError, KeyboardInterrupt])
def test_chat_can_be_left(run, tiny, monkeypatch, leaving):
    def left(_):
        raise leaving

    monkeypatch.setattr("builtins.input", left)
    assert run("chat", "-m", tiny)[0] == 0


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode",),
        ("encode", "absent.jpg"),
        ("encode", "x" * 300),
        ("encode", "empty"),
        ("encode", "photos/0.png", "-o", "file"),
        ("inspect",),
        ("inspect", "absent.jpg"),
        ("inspect", "photos/0.png", "-o", "file"),
        ("info", "--model", "no/such/thing/at all"),
        ("info", "--model", "."),
        ("info", "--model", "x" * 300),
        ("chat", "absent.jpg", "--say", "Hi"),
        ("chat", "--say", "Hi", "--temperature", "-1"),
        ("chat", "--say", "Hi", "--max-new-tokens", "0"),
        ("chat", "--say", "Hi", "--seed", "-1"),
        ("chat", "--model", "."),
        ("chat", "--dtype", "int4"),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, photos, arguments):
    Path("empty").mkdir()
    Path("file").write_text("")
    code, _, err = run(*arguments)
    assert code == 2
    assert len(lines(err)) == 1 and len(err) <= 600
    assert "Traceback" not in err and " at 0x" not in err and str(photos.parent) not in err


@pytest.mark.parametrize("arguments", [("encode", "a.jpg", "--batch-size", "0"), ("sing",), ("chat", "--seed", "one")])
def test_usage_is_explained(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2 and "Traceback" not in err and "Usage" in err


@pytest.mark.parametrize("command", ["chat", "encode", "inspect", "info", "verify", "eval", "serve", "warmup"])
def test_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and "--model" in out


def test_as_a_program(tmp_path):
    program = [sys.executable, "-c", "from omni.cli import main; main()"]
    result = subprocess.run([*program, "inspect", "absent.jpg"], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "") and lines(result.stderr) == ["omni: no file at 'absent.jpg'"]


# --- train ------------------------------------------------------------------------------------------------------------


def test_train(run, tmp_path):
    PIL.Image.new("RGB", (64, 64), (200, 9, 9)).save(tmp_path / "red.png")
    seen = [{"type": "image", "image": "red.png"}, {"type": "text", "text": "Colour?"}]
    messages = [{"role": "user", "content": seen}, {"role": "assistant", "content": "Red."}]
    Path("data.jsonl").write_text(json.dumps({"messages": messages}) + "\n", "utf-8")
    options = (
        "--out",
        "learned",
        "--steps",
        25,
        "--batch-size",
        1,
        "--lr",
        3e-3,
        "--dtype",
        "float32",
        "--mix-share",
        0,
    )
    code, out, err = run("train", "data.jsonl", *options)
    assert code == 0 and "25 steps on 1 conversations" in out
    assert "no earlier conversations are mixed in" in err and "step 24 of 25, loss" in err
    assert [json.loads(line)["step"] for line in lines(Path("learned/metrics.jsonl").read_text())] == [*range(1, 26)]
    code, out, err = run("chat", "red.png", "--model", "learned", "--say", "Colour?", "--temperature", 0)
    assert code == 0 and out.strip() == "Red." and "untrained" not in err


def test_a_run_that_has_not_ended_says_so(run):
    folder = Path("half")
    folder.mkdir()
    write_run(folder, TrainingRun("demo", "data.jsonl", 100, "omni train data.jsonl --out half"))
    code, out, _ = run("info", "--model", "half")
    assert code == 0 and "go on with: omni train data.jsonl --out half" in out and "0 of 100 steps are saved" in out
    with pytest.raises(omni.CheckpointError, match="go on with") as error:
        omni.load("half")
    assert error.value.code == "unfinished_training"


def test_steps_that_come_again_leave_the_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(f'{{"step": {step}, "loss": 1}}\n' for step in (1, 2, 3, 4)) + '{"step": 5, "lo')
    forget_after(log, 3)
    assert [json.loads(line)["step"] for line in lines(log.read_text())] == [1, 2, 3]
    forget_after(tmp_path / "absent.jsonl", 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request_while_a_command_saves(number, capsys):
    before = signal.getsignal(number)
    with interruption("one moment") as asked:
        assert not asked
        os.kill(os.getpid(), number)
        while not asked:
            time.sleep(0.01)
    assert asked.signal == number and signal.getsignal(number) == before
    assert capsys.readouterr().err == "one moment\n"


def test_progress_without_a_terminal_is_ten_lines(capsys):
    with progress(40, "step", 4) as told:
        for step in range(5, 41):
            told.update(step, loss=f"{step / 10}")
    err = lines(capsys.readouterr().err)
    assert len(err) == 9 and err[0] == "step 8 of 40, loss 0.8" and err[-1] == "step 40 of 40, loss 4.0"


def test_train_refuses(run):
    Path("data.jsonl").write_text("no json", "utf-8")
    code, _, err = run("train", "data.jsonl", "--out", "learned")
    assert code == 2 and lines(err) == [err.strip()] and "line 1 of data.jsonl" in err
    assert run("train", "absent.jsonl", "--out", "learned")[0] == 2
    assert not Path("learned").exists()
    line = json.dumps({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]})
    Path("data.jsonl").write_text(line, "utf-8")
    Path("mine").mkdir()
    Path("mine/config.json").write_text("{}")
    code, _, err = run("train", "data.jsonl", "--out", "mine")
    assert code == 2 and "mine holds a checkpoint" in err and written("mine") == ["config.json"]
