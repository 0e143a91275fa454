"""The index of a video's frames: their times, where decoding may jump to, and holes."""

from types import SimpleNamespace

import numpy as np
import pytest

from processors import Access, InputError, Limits
from processors.decode.video.decoder import _MOST_LEFT_OUT, _on_screen, _runs
from processors.decode.video.frame_index import FrameIndex, read_frame_index


def container_of(times):
    """A container of one video track with these times, in milliseconds; None where a packet has none."""
    track = SimpleNamespace(index=0, time_base=0.001, average_rate=25, guessed_rate=25)
    packets = [
        SimpleNamespace(
            size=9, is_discard=False, is_keyframe=True, duration=40, time_base=0.001, stream=track, pos=None, pts=time,
            dts=time,
        )
        for time in times
    ]  # fmt: skip
    return SimpleNamespace(format=SimpleNamespace(name="matroska", flags=0), demux=lambda *_: packets), track


@pytest.mark.parametrize("times", [[None] * 50, [0] * 50, [7] * 50])
def test_frames_without_a_clock_get_the_tracks_rate(times):
    index = read_frame_index(*container_of(times))
    assert index is not None and index.ticks is None and index.constant and index.rate == 25
    np.testing.assert_allclose(index.times, np.arange(50) / 25)
    assert index.end == 2


@pytest.mark.parametrize("times", [[7, 7], [0, 0], [None, None], [None]])
def test_one_or_two_frames_without_a_clock_get_it_too(times):
    index = read_frame_index(*container_of(times))
    assert index is not None and index.ticks is None and list(index.times) == [0, 1 / 25][: len(times)]
    assert index.end == len(times) / 25 and index.rate == 25


@pytest.mark.parametrize("start", [0, 5000])
def test_even_frames_have_the_times_of_their_ticks(start):
    index = read_frame_index(*container_of([start + 40 * number for number in range(50)]))
    assert index is not None and index.ticks is not None and index.constant and index.rate == 25
    np.testing.assert_allclose(index.times, start / 1000 + np.arange(50) / 25)
    assert index.end == pytest.approx(start / 1000 + 2)


def test_a_frame_that_stays_makes_an_uneven_video():
    index = read_frame_index(*container_of([0, 40, 80, 1000, 1040]))
    assert index is not None and not index.constant and index.end == pytest.approx(1.08)


def index_of(keyframes, total=500, parts=1):
    keys = np.zeros(total, bool)
    keys[keyframes] = True
    times = np.arange(total) / 25
    return FrameIndex(times, np.arange(total), keys, total / 25, 25.0, True, parts=parts)


def test_decoding_jumps_to_the_last_keyframe_before_a_frame_far_ahead():
    index = index_of([0, 100, 200, 300, 400])
    assert list(_runs(index, [0, 10, 150, 199, 450])) == [(0, [0, 10]), (100, [150, 199]), (400, [450])]
    assert list(_runs(index, [200])) == [(200, [200])]


def test_decoding_goes_on_where_no_keyframe_is_far_ahead():
    assert list(_runs(index_of([0]), [0, 499])) == [(0, [0, 499])]
    assert list(_runs(index_of(range(500)), [0, 10, 20, 30])) == [(0, [0, 10, 20, 30])]
    # Frames before the first keyframe are decoded from the start.
    assert list(_runs(index_of([400]), [399])) == [(0, [399])]


def test_a_video_of_several_clocks_is_decoded_from_its_start():
    assert list(_runs(index_of([0, 200, 400], parts=2), [0, 450])) == [(0, [0, 450])]


def on_screen(ranks, wanted, name):
    return list(_on_screen(((rank, rank) for rank in ranks), wanted, name))


@pytest.mark.parametrize(("ranks", "wanted"), [([0, _MOST_LEFT_OUT], [5]), ([0], [0, _MOST_LEFT_OUT])])
def test_the_frame_before_stands_in_for_as_many_as_a_decoder_may_leave_out(ranks, wanted):
    assert on_screen(ranks, wanted, "it") == [0] * len(wanted)
    further = [rank + (rank == _MOST_LEFT_OUT) for rank in ranks], [rank + (rank == _MOST_LEFT_OUT) for rank in wanted]
    with pytest.raises(InputError) as refusal:
        on_screen(*further, "it")
    assert refusal.value.code == "video_corrupt"
    # Without times, ranks are counts, and have no holes.
    assert on_screen(*further, None) == [0] * len(wanted)


@pytest.mark.parametrize("time", [0, 40, 2000])
def test_a_single_frame_has_its_time(time):
    index = read_frame_index(*container_of([time]))
    assert index is not None and index.ticks is not None and list(index.ticks) == [time] and index.constant
    assert list(index.times) == [time / 1000] and index.rate == 25 and index.end == pytest.approx(time / 1000 + 0.04)


@pytest.mark.parametrize(("still", "moving"), [(1, 1), (10, 10), (11, 10), (9, 10)])
def test_a_clock_that_moves_for_half_of_the_frames_is_one(still, moving):
    """Frames of one time, and then one of another after each."""
    times = [0] * still + [40 * number for number in range(1, moving + 1)]
    index = read_frame_index(*container_of(times))
    assert index is not None and (index.ticks is None) == (still > moving)


def test_frames_are_put_in_the_order_of_their_times():
    index = read_frame_index(*container_of([0, 120, 40, 80, 240, 160, 200]))
    assert index is not None and index.constant and index.total == index.packets == 7
    np.testing.assert_allclose(index.times, np.arange(7) / 25)
    assert index.end == pytest.approx(0.28)


def test_packets_that_are_not_shown_or_hold_nothing_are_no_frames():
    container, track = container_of([0, 40, 80, 120])
    packets = container.demux()
    packets[1].is_discard, packets[2].size = True, 0
    index = read_frame_index(container, track)
    assert index is not None and index.total == 2 and index.packets == 3
    for packet in packets:
        packet.size = 0
    assert read_frame_index(container, track) is None


@pytest.mark.parametrize(("limit", "refused"), [(3, True), (4, False)])
def test_frames_are_counted_against_the_limit(limit, refused):
    access = Access(limits=Limits(video_frames=limit))
    if not refused:
        assert read_frame_index(*container_of([0, 40, 80, 120]), access=access).total == 4
        return
    with pytest.raises(InputError) as refusal:
        read_frame_index(*container_of([0, 40, 80, 120]), access=access)
    assert refusal.value.code == "video_too_large"
