"""Settings as checkpoints carry them, and the package's own manners."""

import json
import subprocess
import sys

import numpy as np
import pytest

from processors import AudioConfig, AudioProcessor, ImageConfig, ImageProcessor, VideoConfig, VideoProcessor
from processors.io.bounded_json import SMALL

FLAT = {  # the one file of the released Qwen3-Omni checkpoints
    "dither": 0.0,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "max_pixels": 12845056,
    "merge_size": 2,
    "min_pixels": 3136,
    "n_fft": 400,
    "n_samples": 4800000,
    "nb_max_frames": 30000,
    "padding_side": "right",
    "padding_value": 0.0,
    "patch_size": 16,
    "processor_class": "Qwen3OmniMoeProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "return_attention_mask": True,
    "sampling_rate": 16000,
    "size": {"longest_edge": 12845056, "shortest_edge": 3136},
    "temporal_patch_size": 2,
}


def folder(tmp_path, **files):
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_defaults_are_the_released_settings(tmp_path):
    path = folder(tmp_path, preprocessor_config=FLAT)
    assert ImageProcessor.from_pretrained(path).config == ImageConfig()
    assert VideoProcessor.from_pretrained(str(path)).config == VideoConfig()
    assert AudioProcessor.from_pretrained(path).config == AudioConfig()


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, 0),
        ({"feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "Qwen3ASRProcessor"}, 8000),
        ({"feature_extractor_type": "Qwen3ASRFeatureExtractor"}, 8000),
        ({"feature_extractor_type": "Qwen3ASRFeatureExtractor", "min_length": 0}, 0),
    ],
)
def test_the_speech_recogniser_lengthens_short_clips(settings, least):
    assert AudioConfig.from_dict(settings) == AudioConfig(min_length=least)
    if least:
        clip = np.random.RandomState(0).uniform(-1, 1, 1600).astype(np.float32)
        whole = AudioProcessor(AudioConfig())(np.pad(clip, (0, least - 1600))).mel
        np.testing.assert_array_equal(AudioProcessor(AudioConfig.from_dict(settings))(clip).mel, whole)


def test_qwen3_vl_by_its_video_processor_or_its_processor(tmp_path):
    size = {"shortest_edge": 4096, "longest_edge": 25165824}
    limits = {"shortest_edge": 65536, "longest_edge": 16777216}
    stills = {
        "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "size": limits,
    }
    clips = {"video_processor_type": "Qwen3VLVideoProcessor", "size": size}
    alone = VideoConfig.from_pretrained(folder(tmp_path, preprocessor_config=stills))
    assert alone == VideoConfig(clip_limits=True, to_last_frame=True)
    both = folder(tmp_path, video_preprocessor_config=clips)
    wanted = VideoConfig(min_pixels=4096, max_pixels=25165824, clip_limits=True, to_last_frame=True)
    assert VideoConfig.from_pretrained(both) == wanted
    assert ImageConfig.from_pretrained(both) == ImageConfig(min_pixels=65536, max_pixels=16777216)
    nested = {"processor_class": "Qwen3VLProcessor", "video_processor": {"size": size}}
    assert VideoConfig.from_pretrained(folder(tmp_path, processor_config=nested)) == wanted


def test_limits_in_both_spellings_the_older_one_first(tmp_path):
    size = {"shortest_edge": 5000, "longest_edge": 9000}
    newer = ImageConfig.from_pretrained(folder(tmp_path, preprocessor_config={"patch_size": 14, "size": size}))
    assert (newer.patch_size, newer.min_pixels, newer.max_pixels) == (14, 5000, 9000)
    both = ImageConfig.from_dict({"size": size, "min_pixels": 4000, "max_pixels": None})
    assert (both.min_pixels, both.max_pixels) == (4000, 9000)


def test_nested_settings_come_first(tmp_path):
    size = {"shortest_edge": 5000, "longest_edge": 9000}
    nested = {
        "image_processor": {"image_processor_type": "Qwen2VLImageProcessorFast", "merge_size": 4},
        "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor", "size": size, "fps": 4, "max_frames": 9},
        "feature_extractor": {"feature_size": 80},
    }
    path = folder(tmp_path, preprocessor_config=FLAT, processor_config=nested)
    assert ImageConfig.from_pretrained(path).merge_size == 4
    assert AudioConfig.from_pretrained(path).feature_size == 80
    video = VideoConfig.from_pretrained(path)
    assert (video.min_pixels, video.max_pixels, video.fps, video.max_frames) == (5000, 9000, 4, 9)
    # The reference's Omni processor overrides the limits of its video processor, whatever the file says.
    path = folder(tmp_path, processor_config={**nested, "processor_class": "Qwen3OmniMoeProcessor"})
    video = VideoConfig.from_pretrained(path)
    assert (video.min_pixels, video.max_pixels, video.fps) == (VideoConfig.min_pixels, VideoConfig.max_pixels, 4)


def test_a_nested_file_without_the_section_is_passed_over(tmp_path):
    path = folder(tmp_path, processor_config={"processor_class": "Qwen3OmniMoeProcessor"}, preprocessor_config=FLAT)
    assert ImageConfig.from_pretrained(path) == ImageConfig()


def test_video_settings_of_their_own_file(tmp_path):
    own = {"video_processor_type": "Qwen2VLVideoProcessor", "min_pixels": 2048, "max_pixels": 4096, "min_frames": 2}
    video = VideoConfig.from_pretrained(folder(tmp_path, preprocessor_config=FLAT, video_preprocessor_config=own))
    assert (video.min_pixels, video.max_pixels, video.min_frames) == (2048, 4096, 2)


@pytest.mark.parametrize(
    ("config", "settings", "name"),
    [
        (ImageConfig, {"do_resize": False}, "do_resize"),
        (ImageConfig, {"do_normalize": False}, "do_normalize"),
        (ImageConfig, {"resample": 2}, "resample"),
        (ImageConfig, {"image_processor_type": "CLIPImageProcessor"}, "image_processor_type"),
        (ImageConfig, {"patch_size": 0}, "patch_size"),
        (ImageConfig, {"min_pixels": 10, "max_pixels": 5}, "max_pixels"),
        (ImageConfig, {"image_std": [0.5, 0.5, 0.0]}, "image_std"),
        (VideoConfig, {"video_processor_type": "Glm4vVideoProcessor"}, "video_processor_type"),
        (VideoConfig, {"cap_pixels_per_frame": True}, "cap_pixels_per_frame"),
        (VideoConfig, {"fps": 0.0}, "fps"),
        (VideoConfig, {"min_frames": 5, "max_frames": 4}, "max_frames"),
        (AudioConfig, {"feature_extractor_type": "SeamlessM4TFeatureExtractor"}, "feature_extractor_type"),
        (AudioConfig, {"dither": 0.1}, "dither"),
        (AudioConfig, {"hop_length": 0}, "hop_length"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(config, settings, name):
    with pytest.raises(ValueError, match=rf"^{name} is "):
        config.from_dict(settings)


def test_one_frame_is_enough_of_a_video():
    config = VideoConfig.from_dict({"min_frames": 1, "max_frames": 1})
    assert (config.min_frames, config.max_frames) == (1, 1)
    for name in ("min_frames", "max_frames"):
        with pytest.raises(ValueError, match=rf"^{name} is 0; supported: whole numbers of at least 1"):
            VideoConfig.from_dict({"min_frames": 1, "max_frames": 1, name: 0})


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_settings_are_numbers_that_can_be_computed_with(word, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(f'{{"min_pixels": {word}}}', "utf-8")
    with pytest.raises(ValueError, match=rf"^preprocessor_config.json is not JSON that can be used: {word} in it is "):
        ImageConfig.from_pretrained(tmp_path)


def test_a_file_of_settings_is_read_whole_or_refused(tmp_path):
    path = tmp_path / "preprocessor_config.json"
    path.write_bytes(b'{"patch_size": 14}'.ljust(SMALL.bytes))
    assert ImageConfig.from_pretrained(tmp_path).patch_size == 14
    path.write_bytes(b'{"patch_size": 14}'.ljust(SMALL.bytes + 1))
    with pytest.raises(ValueError, match="longer than"):
        ImageConfig.from_pretrained(tmp_path)


def test_a_folder_without_settings_is_refused(tmp_path):
    for config in (ImageConfig, VideoConfig, AudioConfig):
        with pytest.raises(FileNotFoundError, match=r"preprocessor_config\.json"):
            config.from_pretrained(tmp_path)


def test_importing_is_light():
    code = """
import sys
import processors
heavy = {"jax", "av", "scipy", "soundfile", "soxr", "librosa", "torch", "omni", "encoders"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
