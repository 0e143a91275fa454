"""Boxes and points in a reply: read in every form that models write, and placed on the image that was given."""

import io

import numpy as np
import pytest
from PIL import Image

import omni
from omni.generation.boxes import Box, Point
from omni.generation.reply import Reply, Usage
from omni.media.pictures import Pictures
from processors import ImageConfig, ImageProcessor

# 200 x 100 pixels, which the default settings make larger.
IMAGE = np.zeros((100, 200, 3), np.uint8)
HALF = Box(0, 0, 100, 50)


def reply(text, *images, **settings):
    """A reply in a conversation about images."""
    processor = ImageProcessor(ImageConfig(**settings))
    grids = [processor(image).grid_thw[0] * processor.config.patch_size for image in images or (IMAGE,)]
    sizes = tuple((int(width), int(height)) for _, height, width in grids)
    return Reply(text, [], "stop", Usage(1, 0, 1), pictures=Pictures(sizes, processor.config))


def labelled(box, label):
    return Box(box.left, box.top, box.right, box.bottom, label)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ('{"bbox_2d": [0, 0, 500, 500], "label": "cat"}', [labelled(HALF, "cat")]),
        ('```json\n[{"bbox_2d": [0, 0, 500, 500], "label": "a {cat}"}]\n```', [labelled(HALF, "a {cat}")]),
        ('{"found": [{"label": "", "bbox_2d": [0, 0, 500.0, 5e2], "of": {"bbox_2d": 3}}]}', [labelled(HALF, "")]),
        ('{"bbox_2d": [[0, 0, 500, 500], [500, 500, 1000, 1000]]}', [HALF, Box(100, 50, 200, 100)]),
        # Beyond the edges, and corners the other way round.
        ('{"bbox_2d": [1200, 500, 500, -3]}', [Box(100, 0, 200, 50)]),
        ("cat<|box_start|>(0,0),(500,500)<|box_end|>", [labelled(HALF, "cat")]),
        (
            "<|object_ref_start|>the cat<|object_ref_end|><|box_start|>(0, 0), (500, 500)<|box_end|>",
            [labelled(HALF, "the cat")],
        ),
        # As a reply's text has it, without control tokens; and words that are no label.
        ("the cat(0,0),(500,500)", [labelled(HALF, "the cat")]),
        ("It is at (0,0),(500,500).", [HALF]),
        # What was cut short, what is no box, and what is no JSON, beside what is one.
        ('[{"bbox_2d": [0, 0, 500, 500]}, {"bbox_2d": [1, 2', [HALF]),
        ('{"bbox_2d": [1, 2, 3]} {"bbox_2d": [true, 0, 1, 1]} {"bbox_2d": [0, 0, 1e999, 1]} {bbox_2d}', []),
        ('5" wide: {"bbox_2d": [0, 0, 500, 500]} }{', [HALF]),
        ("There is none. (12, 13)", []),
        ("", []),
    ],
    ids=range(14),
)
def test_boxes(text, wanted):
    assert list(reply(text).boxes(IMAGE)) == wanted


@pytest.mark.parametrize(
    "text, wanted",
    [
        ('[{"point_2d": [250, 1000], "label": "tail"}, {"bbox_2d": [1, 2, 3, 4]}]', [Point(50, 100, "tail")]),
        ("<|point_start|>(250,1000)<|point_end|>, (0,0),(500,500)", [Point(50, 100)]),
    ],
    ids=["json", "markers"],
)
def test_points(text, wanted):
    assert list(reply(text).points(IMAGE)) == wanted


def test_pixels_of_the_resized_image():
    answer = reply('{"bbox_2d": [0, 0, 112, 56]}', min_pixels=1, max_pixels=224 * 112, patch_size=14)
    assert answer.pictures.sizes == ((196, 112),)
    (box,) = answer.boxes(IMAGE, coordinates="pixels")
    assert (box.right, box.bottom) == pytest.approx((112 / 196 * 200, 50))


def test_an_image_that_lies_on_its_side():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, "JPEG", exif=exif)
    answer = reply('{"bbox_2d": [0, 0, 500, 500]}', IMAGE.swapaxes(0, 1))
    assert answer.boxes(file.getvalue()) == (Box(0, 0, 50, 100),)


def test_images_are_told_apart_by_what_they_become():
    tall = np.zeros((300, 60, 3), np.uint8)
    answer = reply('{"bbox_2d": [0, 0, 500, 500]}', IMAGE, tall)
    assert answer.boxes(IMAGE) == (HALF,)
    assert answer.boxes(omni.Image(tall)) == (Box(0, 0, 30, 150),)
    for stranger in (np.zeros((50, 400, 3), np.uint8), omni.Image(IMAGE, min_pixels=1, max_pixels=4096)):
        with pytest.raises(omni.InputError) as refused:
            answer.boxes(stranger)
        assert refused.value.code == "image_not_there"
    with pytest.raises(omni.InputError) as refused:
        Reply("", [], "stop", Usage(1, 0, 1)).points(IMAGE)
    assert refused.value.code == "image_not_there"
    with pytest.raises(omni.InputError) as refused:
        answer.boxes(IMAGE, "percent")
    assert refused.value.code == "bad_option"


def test_a_conversation_remembers_its_images(model):
    messages = [{"role": "user", "content": [{"type": "image", "image": IMAGE}, {"type": "text", "text": "Where?"}]}]
    answer = model.generate(messages, max_new_tokens=1)
    assert answer.boxes(IMAGE) == ()
    with pytest.raises(omni.InputError, match="becomes"):
        answer.boxes(np.zeros((50, 400, 3), np.uint8))
