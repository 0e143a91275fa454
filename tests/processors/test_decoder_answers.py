"""What passes between a decoding process and its parent: the one believes nothing, the other answers all."""

import io
import json
import os
import pickle
import socket
import struct
import threading
from contextlib import closing, suppress

import pytest

from processors import Access, InputError, Limits
from processors.decode import pool, process
from processors.decode.pool import isolated_answers
from processors.decode.protocol import ANSWER, NEXT, REQUEST, START, STOP


class Stranger(pool._Decoder):
    """Stands where a decoding process does, and answers with bytes that were made before."""

    def __init__(self, answers, exit_code=1):
        self.channel, theirs = socket.socketpair()
        self.exit_code, self.asked, self.ended = exit_code, [], False
        self._thread = threading.Thread(target=self._answer, args=(theirs, answers), daemon=True)
        self._thread.start()

    def _answer(self, theirs, answers):
        # The parent may be gone at any time.
        with theirs, suppress(OSError, IndexError, struct.error):
            head, descriptors, _, _ = socket.recv_fds(theirs, REQUEST.size, 1)
            os.close(descriptors[0])
            size = REQUEST.unpack(head)[1]
            while size:
                size -= len(theirs.recv(size))
            for place, answer in enumerate(answers):
                if place:
                    self.asked.append(REQUEST.unpack(theirs.recv(REQUEST.size, socket.MSG_WAITALL)))
                theirs.sendall(answer)
            if answers and self.exit_code is None:
                while left := theirs.recv(REQUEST.size, socket.MSG_WAITALL):
                    self.asked.append(REQUEST.unpack(left))

    def usable(self):
        return True

    def end(self):
        self.channel.close()
        self.ended = True
        return self.exit_code or 0


@pytest.fixture
def lent(monkeypatch):
    """Makes the pool lend a stranger."""
    monkeypatch.setattr(pool, "_idle", [])
    strangers = []

    def lend(*answers, exit_code=1):
        strangers.append(Stranger(answers, exit_code))
        pool._idle.append(strangers[-1])
        return strangers[-1]

    yield lend
    for stranger in strangers:
        stranger.channel.close()
        stranger._thread.join(5)


def made(answer, payload=b""):
    text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return ANSWER.pack(len(text), len(payload)) + text + payload


def read(access=None):
    with isolated_answers("any", io.BytesIO(b"medium"), "it", (), access or Access()) as answers:
        return [(header, bytes(payload)) for header, payload in answers]


def refusal_of(access=None):
    with pytest.raises(InputError) as refusal:
        read(access)
    return refusal.value


END = made({"end": True})


def test_answers_are_read_to_their_end_and_the_process_is_kept(lent):
    stranger = lent(made({"n": 1}), made({"n": 2}, b"bytes"), END)
    assert read() == [({"n": 1}, b""), ({"n": 2}, b"bytes")]
    assert stranger.asked == [(NEXT, 0)] * 2 and pool._idle == [stranger] and not stranger.ended


@pytest.mark.parametrize(
    "answer",
    [
        made(b"no json"),
        made(b"\xff\xfe"),
        made([1]),
        made("text"),
        made({"error": "media_failed"}),
        made({"error": ["one"]}),
        made({"error": None}),
        ANSWER.pack((1 << 16) + 1, 0) + b"{}",
        ANSWER.pack(2, (1 << 28) + 1) + b"{}",
        ANSWER.pack(2, (1 << 64) - 1) + b"{}",
    ],
)
def test_an_answer_that_is_none_ends_the_process(answer, lent):
    stranger = lent(answer, exit_code=None)
    assert refusal_of().code == "decoder_crashed"
    assert stranger.ended or pool._idle == [stranger]


@pytest.mark.parametrize("answer", [made(b"no json"), made([1]), ANSWER.pack(2, (1 << 28) + 1) + b"{}"])
def test_whoever_answers_badly_is_not_asked_again(answer, lent):
    stranger = lent(made({}), answer, exit_code=None)
    error = refusal_of()
    assert error.code == "decoder_crashed" and "it:" in str(error) and stranger.ended and not pool._idle


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("video_corrupt", "video_corrupt"),
        ("a" * 64, "a" * 64),
        ("a" * 999, "decoder_crashed"),
        ("no code", "decoder_crashed"),
        ("", "decoder_crashed"),
        (7, "decoder_crashed"),
    ],
)
def test_an_error_of_the_process_is_one_of_its_medium(code, expected, lent):
    stranger = lent(made({"error": [code, "what it was"]}), exit_code=None)
    error = refusal_of()
    assert error.code == expected and "what it was" in str(error)
    assert pool._idle == [stranger] and not stranger.ended


@pytest.mark.parametrize(
    ("exit_code", "code", "word"),
    [(-9, "decoder_crashed", "signal 9"), (3, "decoder_crashed", "exit code 3"), (-24, "decoder_time", "7 s")],
)
def test_a_process_that_ends_is_told_by_what_it_died_of(exit_code, code, word, lent):
    """Signal 24 is that of too much processor time: POSIX, signal.h."""
    for answers in ((), (made({}),), (made({}), made({})[:-1])):
        lent(*answers, exit_code=exit_code)
        error = refusal_of(Access(Limits(decoder_seconds=7)))
        assert error.code == code and word in str(error) and not pool._idle


def test_a_reader_that_has_enough_stops_the_process_and_keeps_it(lent):
    stranger = lent(made({"n": 1}), made({"n": 2}), exit_code=None)
    with isolated_answers("any", io.BytesIO(b""), "it", (), Access()) as answers:
        assert next(answers)[0] == {"n": 1}
    pool._idle.clear()
    stranger.channel.close()
    stranger._thread.join(5)
    assert stranger.asked == [(NEXT, 0), (STOP, 0)] and not stranger.ended


def test_no_more_processes_are_kept_than_usual(monkeypatch):
    monkeypatch.setattr(pool, "_idle", [])
    monkeypatch.setattr(pool, "_most_idle", 4)
    strangers = [Stranger(()) for _ in range(7)]
    for stranger in strangers[:5]:
        pool._give_back(stranger)
    assert pool._idle == strangers[:4] and [stranger.ended for stranger in strangers[:5]] == [False] * 4 + [True]
    pool.keep_decoders(6)
    pool.keep_decoders(2)  # asks for no fewer
    for stranger in strangers[5:]:
        pool._give_back(stranger)
    assert len(pool._idle) == 6
    pool.end_decoders()
    assert not pool._idle and all(stranger.ended for stranger in strangers)


# --- from the side of the process -------------------------------------------------------------------------------------


class Asked:
    """A parent's end of the channel, and the process's work in a thread."""

    def __init__(self, monkeypatch, operation):
        monkeypatch.setitem(process._OPERATIONS, "any", operation)
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(10)

        def work():
            with theirs:
                process._answer(theirs, "any", 0, ("it",), None)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def answer(self):
        text, size = ANSWER.unpack(self.ours.recv(ANSWER.size, socket.MSG_WAITALL))
        answer = json.loads(self.ours.recv(text, socket.MSG_WAITALL))
        return answer, self.ours.recv(size, socket.MSG_WAITALL) if size else b""

    def ask(self, what):
        self.ours.sendall(REQUEST.pack(what, 0))

    def close(self):
        self.thread.join(5)
        self.ours.close()
        assert not self.thread.is_alive()


def test_a_process_answers_as_often_as_it_is_asked(monkeypatch):
    closed = []

    def operation(source, name, access):
        try:
            yield {"name": name}, b""
            yield {"n": 2}, b"bytes" * 1000
        finally:
            closed.append(True)

    with closing(Asked(monkeypatch, operation)) as parent:
        assert parent.answer() == ({"name": "it"}, b"")
        parent.ask(NEXT)
        assert parent.answer() == ({"n": 2}, b"bytes" * 1000)
        parent.ask(NEXT)
        assert parent.answer() == ({"end": True}, b"")
    with closing(Asked(monkeypatch, operation)) as parent:
        parent.answer()
        parent.ask(STOP)
        parent.thread.join(5)
        assert len(closed) == 2 and parent.ours.recv(1) == b""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("video_corrupt", "it is damaged"), "video_corrupt"),
        (MemoryError(), "any_too_large"),
        (RuntimeError("at 0x7f00"), "decoder_crashed"),
    ],
)
def test_whatever_decoding_raises_is_an_answer(error, code, monkeypatch):
    def operation(source, name, access):
        yield {}, b""
        raise error

    with closing(Asked(monkeypatch, operation)) as parent:
        parent.answer()
        parent.ask(NEXT)
        (kind, (found, message)), payload = *parent.answer()[0].items(), b""
        assert kind == "error" and found == code and "0x" not in message and not payload


def test_a_request_comes_with_a_file(tmp_path):
    arguments = pickle.dumps((None, "any", ("it",)))
    with (tmp_path / "file").open("w+b") as file:
        for head, descriptors, expected in (
            (REQUEST.pack(START, len(arguments)), [file.fileno()], (None, "any", ("it",))),
            (REQUEST.pack(START, len(arguments)), [], None),
            (REQUEST.pack(NEXT, len(arguments)), [file.fileno()], None),
            (REQUEST.pack(START, len(arguments))[:-1], [file.fileno()], None),
        ):
            ours, theirs = socket.socketpair()
            with theirs:
                with ours:
                    socket.send_fds(ours, [head], descriptors)
                    ours.sendall(arguments)
                request = process._receive(theirs)
            if expected is None:
                assert request is None
                continue
            assert request[0] == expected and os.fstat(request[1]).st_ino == os.fstat(file.fileno()).st_ino
            os.close(request[1])
    # A parent that is gone.
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        assert process._receive(theirs) is None
