"""The stream that decoders read: its positions, its deadline, and whether it ran out."""

import io

import pytest

from processors import Access, Deadline, InputError
from processors.io.checked_stream import CheckedStream

DATA = bytes(range(100))


def stream(start=0, access=None, data=DATA):
    return CheckedStream(io.BytesIO(data), start, access or Access())


@pytest.mark.parametrize("start", [0, 1, 30, 99])
def test_positions_count_from_the_start(start):
    read = stream(start)
    assert read.readable() and read.seekable() and read.tell() == 0
    assert read.read(1) == DATA[start : start + 1] and read.tell() == 1
    assert read.seek(0) == 0 and read.read() == DATA[start:] and read.tell() == 100 - start
    assert read.seek(-1, io.SEEK_END) == 99 - start and read.read(None) == DATA[-1:]
    assert read.seek(-1, io.SEEK_CUR) == 99 - start and read.seek(0, io.SEEK_END) == 100 - start
    with pytest.raises(ValueError):
        read.seek(-1)


def test_a_stream_knows_whether_something_was_read_where_nothing_was_left():
    read = stream(90)
    assert read.read(10) == DATA[90:] and not read.ran_out
    assert read.read(0) == b"" and not read.ran_out
    assert read.read(1) == b"" and read.ran_out
    read.seek(0)
    assert read.read(3) and read.ran_out  # once and for all
    whole = stream()
    assert whole.read() == DATA and not whole.ran_out
    assert whole.read() == b"" and whole.ran_out


def test_reading_ends_with_the_deadline_in_few_large_or_many_small_pieces():
    late = Access(deadline=Deadline(1e-6))
    for size, least in ((1, 2), (1 << 20, 1)):
        read = stream(0, late, bytes(1 << 20))
        with pytest.raises(InputError) as refusal:
            for _ in range(2000):
                read.read(size)
        assert refusal.value.code == "deadline" and read.tell() >= least
