"""The judges themselves: what is not as declared is seen."""

import os

import numpy as np
import pytest

from omni import InputError
from processors import load_image
from tests.reliability import media, memory, workers
from tests.reliability.mutants_of_media import KINDS, mutant
from tests.reliability.outcomes import Either, Refused, Value, alarm, finite, judge, message_faults


def ended(call, outcome):
    return judge("it", None, lambda _: call(), outcome).how


def refuse(code="image_corrupt", text="it is damaged"):
    raise InputError(code, text)


@pytest.mark.parametrize(
    ("call", "outcome", "how"),
    [
        (lambda: 5, Value(lambda v: v == 5), "as declared"),
        (lambda: 5, Value(lambda v: v == 6), "wrong"),
        (lambda: 5, Value(lambda v: v.nothing), "wrong"),
        (lambda: 5, Refused("*"), "wrong"),
        (lambda: np.array([1.0, np.nan]), Value(), "silent NaN"),
        (lambda: {"a": [np.float32(np.inf)]}, Value(), "silent NaN"),
        (lambda: 1 // 0, Refused("*"), "crash"),
        (refuse, Refused("image_*"), "as declared"),
        (refuse, Refused("audio_*"), "wrong"),
        (refuse, Refused("image_*", says="damaged"), "as declared"),
        (refuse, Refused("image_*", says="LoRA"), "wrong"),
        (refuse, Value(), "wrong"),
        (refuse, Either(Value(), Refused("image_*")), "as declared"),
        (lambda: refuse("image_corrupt", "at 0x7f00deadbeef"), Refused("*"), "wrong"),
        (lambda: refuse("image_corrupt", "in /usr/lib/x.py"), Refused("*"), "wrong"),
        (lambda: refuse("Image Corrupt"), Refused("*"), "wrong"),
        (lambda: refuse("image_corrupt", " "), Refused("*"), "wrong"),
    ],
)
def test_what_is_not_as_declared_is_seen(call, outcome, how):
    assert ended(call, outcome) == how


def test_a_path_that_was_named_may_be_repeated():
    error = InputError("source_not_found", "no file at '/usr/share/nothing.png'")
    assert message_faults(error) and not message_faults(error, "/usr/share/nothing.png")


def test_what_never_ends_is_stopped():
    with pytest.raises(BaseException) as stopped, alarm(0.05):
        while True:
            pass
    assert type(stopped.value).__name__ == "Stopped"


def test_numbers_are_looked_for_everywhere():
    assert finite([1, "x", None, {"a": np.zeros(3)}, np.array(["x"])])
    assert not finite([[{"a": (0.0, float("inf"))}]])


def test_memory_that_was_held_for_a_moment_is_seen():
    memory.forget_peak()
    base = memory.held()
    block = bytearray(80 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    del block
    assert 70 << 20 < memory.peak() - base < 200 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_the_same_in_every_run(kind):
    made = [repr(mutant(kind, number, 3)) for number in range(6)]
    assert made == [repr(mutant(kind, number, 3)) for number in range(6)]
    assert len(set(made)) > 1


def test_an_input_that_takes_its_process_with_it_is_noticed():
    found = list(workers.run(os._exit, [3, 4], lambda task, why: (task, why), count=1))
    assert found == [(3, "its process ended with 3"), (4, "its process ended with 4")]


def test_every_input_is_tried_once():
    assert sorted(workers.run(abs, [-1, 2, -3], lambda task, why: (task, why))) == [1, 2, 3]


def test_media_made_on_the_spot_are_whole():
    assert load_image(media.image_bytes()).shape == (48, 64, 3)
    assert load_image(media.png(20, 10)).shape == (10, 20, 3)
