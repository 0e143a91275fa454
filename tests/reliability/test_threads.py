"""One model from many threads, Ctrl-C in the middle of work, and what a failed request leaves behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import omni
from tests.reliability import media, memory
from tests.reliability.corpus.table import demo, user

ROOT = Path(__file__).parents[2]
GREEDY = {"temperature": 0, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def model():
    return demo()


def asks(model):
    """Requests of every kind, each with an answer of its own."""
    pictures = [np.full((96, 96, 3), 15 * n, np.uint8) for n in range(4)]

    def chat(n):
        talk = model.chat(**GREEDY)
        talk.send(f"My number is {n}.")
        return talk.send("Which number?").text

    def streamed(n):
        return "".join(model.stream(user(f"Say {n}."), **GREEDY))

    found = []
    for n in range(4):
        found += [
            lambda n=n: model.encode(pictures[n]).tokens,
            lambda n=n: model.encode(omni.Audio(media.tone(0.5, hertz=200.0 + 100 * n), 16_000)).tokens,
            lambda n=n: model.generate(user(f"What is {n} plus two?"), **GREEDY).token_ids,
            lambda n=n: chat(n),
            lambda n=n: model.embed(f"text {n}"),
            lambda n=n: streamed(n),
        ]
    return found


def test_sixteen_threads_get_each_its_own_answer(model):
    calls = asks(model)
    alone = [call() for call in calls]
    together = threading.Barrier(16)

    def work(thread):
        together.wait()
        order = np.random.default_rng(thread).permutation(len(calls))
        return [(place, calls[place]()) for place in order]

    with ThreadPoolExecutor(16) as pool:
        for answers in pool.map(work, range(16)):
            for place, answer in answers:
                if isinstance(answer, np.ndarray):
                    np.testing.assert_allclose(answer, alone[place], rtol=0, atol=1e-4)
                else:
                    assert answer == alone[place]


def test_one_picture_in_sixteen_threads(model, tmp_path):
    """A lazily opened file is read by whoever comes first, and by nobody else at the same time."""
    from PIL import Image

    path = tmp_path / "a.png"
    media.picture(200, 200).save(path)
    right = model.encode(str(path)).tokens
    for _ in range(3):
        image = Image.open(path)
        with ThreadPoolExecutor(16) as pool:
            for found in pool.map(lambda one: model.encode(one).tokens, [image] * 16):
                np.testing.assert_allclose(found, right, rtol=0, atol=1e-4)


def test_failed_requests_leave_the_model_as_it_was(model):
    greedy = model.generate(user("Hello."), **GREEDY).token_ids
    talk = model.chat(**GREEDY)
    talk.send("Hello.")

    def fail():
        for source in (b"no media", media.image_bytes()[:80], None, media.audio_bytes(media.tone(1))[:50]):
            with pytest.raises(omni.InputError):
                model.encode([media.picture(96, 96), source])
        with pytest.raises(omni.InputError):
            talk.send("What is this?", b"no medium")
        with pytest.raises(omni.InputError):
            model.generate([user("Hello."), user({"type": "image", "image": b""}, "?")], **GREEDY)

    for _ in range(3):
        fail()
    gc.collect()
    threads, held = threading.active_count(), memory.held()
    for _ in range(20):
        fail()
    gc.collect()
    assert memory.held() - held < 16 << 20
    assert threading.active_count() <= threads + 2
    assert len(talk.messages) == 2
    assert model.generate(user("Hello."), **GREEDY).token_ids == greedy
    assert talk.send("And now?").text


WORK = {
    "encode": (
        "import omni; model = omni.load('demo'); model.encode('{folder}/0.png'); print('begun', flush=True)\n"
        "while True: model.encode(['{folder}/%d.png' % n for n in range(64)], batch_size=4)"
    ),
    "generate": (
        "import omni; model = omni.load('demo'); ask = [{{'role': 'user', 'content': 'Hi'}}]\n"
        "model.generate(ask, max_new_tokens=2, temperature=0); print('begun', flush=True)\n"
        "while True: model.generate(ask * 1, max_new_tokens=400, temperature=1.0, seed=0)"
    ),
    "load": "import omni; omni.load('demo'); print('begun', flush=True)\nwhile True: omni.load('demo')",
    "videos": (
        "from processors import VideoProcessor; read = VideoProcessor(); read('{folder}/a.mp4')\n"
        "print('begun', flush=True)\n"
        "while True: read('{folder}/a.mp4')"
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("media")
    for number in range(64):
        media.picture(700, 700, seed=number % 4).save(here / f"{number}.png")
    (here / "a.mp4").write_bytes(media.clip(60, side=256))
    return here


def children(process):
    """Processes that came of one, and live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == process and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def interrupted(command, scratch, begun="begun"):
    """Starts a program, interrupts it at work as a terminal does; returns its exit code, seconds, and what it wrote."""
    environment = {**os.environ, "TMPDIR": str(scratch), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if begun in line:
                break
        time.sleep(0.5)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        seconds = time.monotonic() - began
        errors = process.stderr.read()
        left = children(process.pid)
        return process.returncode, seconds, errors, left
    finally:
        for one in children(process.pid):
            os.kill(one, signal.SIGKILL)
        process.stdout.close()
        process.stderr.close()


def patience():
    """A second, or more where other programs have the machine: what a program's own end takes beside it."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import numpy"], check=True)
    return 1.0 + 4 * (time.monotonic() - began)


@pytest.mark.parametrize("work", list(WORK))
def test_an_interrupt_ends_work_within_a_second(work, folder, tmp_path):
    code = WORK[work].format(folder=folder)
    status, seconds, errors, left = interrupted([sys.executable, "-c", code], tmp_path)
    assert status in (-signal.SIGINT, 1, 130) and "KeyboardInterrupt" in errors, errors[-1500:]
    assert seconds < patience()
    assert not left and not list(tmp_path.iterdir())


def test_an_interrupted_folder_leaves_whole_files_only(folder, tmp_path):
    out, scratch = tmp_path / "out", tmp_path / "tmp"
    scratch.mkdir()
    code = (
        "import threading, time, pathlib, sys\n"
        f"out = pathlib.Path({str(out)!r})\n"
        "def watch():\n"
        "    while not list(out.glob('*.safetensors')): time.sleep(0.02)\n"
        "    print('begun', flush=True)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        f"sys.argv = ['omni', 'encode', {str(folder)!r}, '--out', {str(out)!r}, '--batch-size', '2']\n"
        "from omni.cli import main; main()"
    )
    status, seconds, errors, left = interrupted([sys.executable, "-c", code], scratch)
    assert status == 130, errors[-1500:]
    assert "Traceback" not in errors
    assert seconds < patience()
    assert not left and not list(scratch.iterdir())
    made = sorted(out.iterdir())
    assert made and all(path.suffix == ".safetensors" and not path.name.startswith(".") for path in made)
    for path in made:
        omni.Embedding.load(path)
