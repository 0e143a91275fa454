"""How a server behaves towards many callers, slow ones, those who leave, and its own end."""

import io
import itertools
import socket
import subprocess
import threading
import time
from dataclasses import replace

import httpx2
import pytest
import soundfile

import omni
from omni.server import transcriptions
from omni.server.errors import error_response
from processors import InputError
from tests.golden import asr, media
from tests.omni.server import servers
from tests.omni.server.servers import Server

HELLO = [{"role": "user", "content": "Hello"}]
LONG = {"messages": HELLO, "max_tokens": 2000}


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def wait_until(is_so, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def endless(tiny_checkpoint):
    """A model whose replies end at their lengths alone."""
    model = omni.load(tiny_checkpoint, sources=omni.Sources.remote())
    model.generation = type(model.generation)()
    return model


@pytest.fixture(scope="module")
def server(endless):
    """One that has a place for two requests, with two keys."""
    options = {"api_keys": ("one", "two"), "cors_origins": ("http://page.example",)}
    with servers.thread(lambda: endless, max_batch=2, max_queue=0, name="tiny", **options) as one:
        yield one


def stream(server: Server, key: str = "one"):
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.stream(
        "POST", server.url + "/v1/chat/completions", json=LONG | {"stream": True}, headers=headers, timeout=300
    )


@pytest.fixture
def slow(server, monkeypatch):
    """The tickets of a server that takes a while for each token: no reply ends by itself meanwhile."""
    engine, tickets = server.service._engine, []
    submit = engine.submit

    def watched(*args, **more):
        tickets.append(submit(*args, **more))
        return tickets[-1]

    def step():
        time.sleep(0.1)
        server.service.steps.notify()

    monkeypatch.setattr(engine, "submit", watched)
    engine.on_step(step)
    yield tickets
    engine.on_step(server.service.steps.notify)


def test_who_leaves_is_not_answered_further(server, slow):
    with stream(server) as answer:
        next(answer.iter_lines())
    wait_until(lambda: slow[0].done)
    # Also before there is anything to send.
    with socket.create_connection(("127.0.0.1", httpx2.URL(server.url).port)) as client:
        body = b'{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2000}'
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer one\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        wait_until(lambda: len(slow) == 2)
    wait_until(lambda: slow[1].done)
    for ticket in slow:
        with pytest.raises(InputError, match="cancelled"):
            ticket.reply()


def test_more_than_there_is_place_for_come_again_later(server):
    wait_until(lambda: not server.service._open)  # those of earlier tests
    with server.service.place(2):
        answer = server.post("/v1/chat/completions", LONG, "two")
    assert code(answer) == (429, "queue_full") and int(answer.headers["retry-after"]) > 0
    assert server.post("/v1/chat/completions", LONG | {"max_tokens": 1}, "two").status_code == 200


def test_keys_share_nothing_that_was_read(server):
    def cached(content: str, key: str, **more) -> int:
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1, **more}
        return server.post("/v1/chat/completions", body, key).json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    text = "what one caller says is nobody else's"
    assert cached(text, "one") < cached(text, "one")
    full = cached(text, "one")
    # Of the other key's own requests no more than the template's opening can be known.
    assert cached(text, "two") < full and cached(text, "two") == full
    assert cached(text, "one", cache_salt="apart") == 0


def test_what_a_server_cannot_do_is_told_without_what_was_sent(server, monkeypatch):
    def fail(*args, **more):
        raise RuntimeError("a secret of the caller")

    monkeypatch.setattr(server.service._engine, "submit", fail)
    answer = server.post("/v1/chat/completions", LONG, "one")
    assert code(answer) == (500, "internal_error") and "secret" not in answer.text


def test_time_is_limited(server, monkeypatch):
    monkeypatch.setattr(server.service, "settings", replace(server.service.settings, request_seconds=0.3))
    whole = server.post("/v1/chat/completions", LONG, "one")
    assert code(whole) == (503, "deadline")
    streamed = server.post("/v1/chat/completions", LONG | {"stream": True}, "one")
    if streamed.status_code == 200:
        assert '"code":"deadline"' in streamed.text and streamed.text.endswith("data: [DONE]\n\n")
    else:  # it passed before there was a reply to begin
        assert code(streamed) == (503, "deadline")


def test_a_model_that_is_being_loaded_answers_nothing_yet(endless):
    loaded = threading.Event()

    def load():
        loaded.wait(60)
        return endless

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "wait", lambda self: None)
        with servers.thread(load) as server:
            assert httpx2.get(server.url + "/health").status_code == 200
            assert httpx2.get(server.url + "/ready").status_code == 503
            for answer in (server.post("/v1/chat/completions", LONG), httpx2.get(server.url + "/v1/models")):
                assert code(answer) == (503, "not_ready") and answer.headers["retry-after"]
            loaded.set()
            wait_until(lambda: httpx2.get(server.url + "/ready").status_code == 200)


def test_bodies_are_bounded_while_they_are_read(endless):
    with servers.thread(lambda: endless, body_bytes=10_000, body_seconds=0.2) as server:
        sent = itertools.count()

        def pieces():
            for _ in range(1000):
                next(sent)
                yield b" " * 1000

        headers = {"Content-Type": "application/json"}
        try:
            answer = httpx2.post(server.url + "/v1/embeddings", content=pieces(), headers=headers)
            assert code(answer) == (413, "body_too_large") and answer.headers["connection"] == "close"
        except httpx2.TransportError:
            pass  # the connection was closed while this side still sent
        with socket.create_connection(("127.0.0.1", httpx2.URL(server.url).port)) as client:
            client.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 408 ")


def test_pages_of_other_origins_call_where_they_are_allowed_to(server):
    asked = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
    answer = httpx2.options(server.url + "/v1/chat/completions", headers=asked)
    assert answer.status_code == 204 and answer.headers["access-control-allow-origin"] == "http://page.example"
    for origin in ("http://other.example", "null"):
        answer = httpx2.get(server.url + "/health", headers={"Origin": origin})
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


def test_a_model_that_cannot_be_loaded_ends_the_program(tmp_path):
    result = subprocess.run(servers.command(str(tmp_path)), capture_output=True, text=True, timeout=300)
    assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith("omni: ")


# --- transcriptions ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    model = omni.load(asr.write_checkpoint(tmp_path_factory.mktemp("asr"), asr.NAMINGS[0]))
    with servers.thread(lambda: model, max_new_tokens=8, name="asr") as server:
        yield server, model


def recording() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, media.audio(asr.CLIPS[0]), media.RATE, format="WAV")
    return file.getvalue()


def transcribed(server: Server, data: bytes, **fields) -> httpx2.Response:
    files = {"file": ("speech.wav", data, "audio/wav")}
    return httpx2.post(server.url + "/v1/audio/transcriptions", files=files, data=fields, timeout=300)


@pytest.mark.filterwarnings("ignore:the text from")
def test_transcripts_in_every_form(recogniser):
    server, model = recogniser
    data = recording()
    wanted = model.transcribe(data)
    assert transcribed(server, data).json() == {"text": wanted.text}
    assert transcribed(server, data, response_format="text").text == wanted.text + "\n"
    verbose = transcribed(server, data, response_format="verbose_json", model="asr", temperature="0").json()
    assert verbose["text"] == wanted.text and verbose["duration"] == wanted.pieces[-1].end
    assert [(s["start"], s["end"], s["text"]) for s in verbose["segments"]] == [
        (p.start, p.end, p.text) for p in wanted.pieces
    ]


def test_subtitles():
    piece = omni.Piece(3661.5, 7322.0004, "one <b>\n\n00:00 --> 00:01", None, "stop")
    transcript = omni.Transcript((omni.Piece(0.0, 1.0, " ", None, "stop"), piece))
    assert transcriptions.srt(transcript) == "1\n01:01:01,500 --> 02:02:02,000\none <b>\n00:00 -> 00:01\n"
    wanted = "WEBVTT\n\n01:01:01.500 --> 02:02:02.000\none &lt;b&gt;\n00:00 -&gt; 00:01\n"
    assert transcriptions.vtt(transcript) == wanted


@pytest.mark.filterwarnings("ignore:the text from")
def test_long_recordings_are_read_from_a_file(recogniser, monkeypatch):
    server, _ = recogniser
    whole = transcribed(server, recording()).json()
    monkeypatch.setattr(transcriptions, "_HELD", 1000)
    assert transcribed(server, recording()).json() == whole
    answer = transcribed(server, b"\xff\xfb" * 1000)
    assert answer.status_code == 400 and "speech.wav" in answer.json()["error"]["message"]
    assert "/omni-" not in answer.text


@pytest.mark.parametrize(
    "fields, wanted",
    [
        ({"response_format": "docx"}, "bad_field"),
        ({"timestamp_granularities[]": "word"}, "unsupported_field"),
        ({"temperature": "0.7"}, "unsupported_field"),
        ({"language": "Klingon"}, "unknown_language"),
        ({"diarize": "true"}, "unknown_field"),
    ],
)
def test_transcripts_that_cannot_be_made(recogniser, fields, wanted):
    assert code(transcribed(recogniser[0], recording(), **fields)) == (400, wanted)


def test_an_error_says_when_to_come_again():
    assert "retry-after" in error_response(InputError("draining", "x")).headers
    assert "retry-after" not in error_response(InputError("bad_part", "x")).headers
