"""Boxes and points on an image: where they are, in a colour for each label, and the image as it was elsewhere."""

import numpy as np
import pytest
from PIL import Image as Pillow

import omni
from omni.generation.boxes import Box, Point
from omni.tools.drawing.boxes import draw

GREY = np.full((200, 300, 3), 128, np.uint8)
CAT, DOG = Box(20, 30, 120, 150, ""), Box(150, 30, 280, 150, "dog")


def changed(picture: Pillow.Image) -> np.ndarray:
    return (np.asarray(picture) != 128).any(-1)


def test_a_box_is_its_outline_and_nothing_else():
    rows, columns = np.nonzero(changed(draw(GREY, [CAT])))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (20, 120, 30, 150)
    inside = changed(draw(GREY, [CAT]))[35:145, 25:115]
    assert not inside.any()


def test_a_point_is_a_ring_around_it():
    ring = changed(draw(GREY, [Point(100, 60, "")]))
    rows, columns = np.nonzero(ring)
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (120, 200)
    assert not ring[60, 100]


def test_a_label_is_written_beside_its_box_and_gives_the_colour():
    bare, labelled = draw(GREY, [Box(150, 30, 280, 150, "")]), draw(GREY, [DOG])
    assert changed(labelled)[34:60, 154:200].any() and not changed(bare)[34:60, 154:200].any()
    outlines = [
        np.asarray(draw(GREY, [CAT, other]))[31, [60, 200]].tolist() for other in (DOG, Box(150, 30, 280, 150, ""))
    ]
    assert outlines[0][0] != outlines[0][1] and outlines[1][0] == outlines[1][1]


def test_more_labels_than_colours_are_drawn():
    boxes = [Box(14 * i, 10, 14 * i + 8, 190, str(i)) for i in range(20)]
    outlines = changed(draw(GREY, boxes))[180, [box.left for box in boxes]]
    assert outlines.all()


@pytest.mark.parametrize("form", [Pillow.fromarray, omni.Image, np.asarray])
def test_the_image_that_was_given_stays_as_it_is(form):
    given = form(GREY.copy())
    assert draw(given, [CAT, Point(5, 5, "eye")]).size == (300, 200)
    assert not changed(draw(given, [])).any()
