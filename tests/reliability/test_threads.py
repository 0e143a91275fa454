"""One model from many threads, Ctrl-C in the middle of work, and what a failed request leaves behind."""

import gc
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import omni
from tests.reliability import interrupts, media, memory
from tests.reliability.corpus.table import demo, user

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
        order = np.random.default_rng(thread).permutation(len(calls))[:10]
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("media")
    interrupts.make_media(here)
    return here


# `make check` says how soon: here no clock decides, but one that is patient.
@pytest.mark.parametrize("work", list(interrupts.WORK))
def test_an_interrupt_ends_work_and_leaves_nothing(work, folder, tmp_path):
    code = interrupts.WORK[work].format(folder=folder)
    status, _, errors, left = interrupts.interrupt([sys.executable, "-c", code], tmp_path)
    assert status in (-signal.SIGINT, 1, 130) and "KeyboardInterrupt" in errors, errors[-1500:]
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
    status, _, errors, left = interrupts.interrupt([sys.executable, "-c", code], scratch)
    assert status == 130, errors[-1500:]
    assert "Traceback" not in errors
    assert not left and not list(scratch.iterdir())
    made = sorted(out.iterdir())
    assert made and all(path.suffix == ".safetensors" and not path.name.startswith(".") for path in made)
    for path in made:
        omni.Embedding.load(path)
