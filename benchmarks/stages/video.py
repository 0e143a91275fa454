"""An H.264 file to patches: decoded, sampled at two frames a second, resized and cut."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.images import picture
from benchmarks.stages.stage import Call, Stage

RATE, SAMPLED = 30, 2


def _prepare(width: int, height: int, seconds: int, folder: Path) -> None:
    av: Any = import_module("av")
    wide = picture(2 * width, height, 0)
    with av.open(str(folder / "video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "23", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(RATE * seconds):
            at = i % width
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, at : at + width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _ours(folder: Path) -> Call:
    av: Any = import_module("av")

    from processors import VideoProcessor

    processor, path = VideoProcessor(), folder / "video.mp4"

    def decode() -> None:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for _ in container.decode(video=0):
                pass

    return Call(lambda _: processor(path, fps=SAMPLED), lambda result: result.pixel_values, decode)


def _reference(folder: Path) -> Call:
    utils: Any = import_module("transformers.video_utils")
    kind: Any = import_module("transformers.models.qwen2_vl.video_processing_qwen2_vl").Qwen2VLVideoProcessor
    torch: Any = import_module("torch")
    size = {"shortest_edge": 128 * 32 * 32, "longest_edge": 768 * 32 * 32}
    processor = kind(size=size, patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)

    def chosen(metadata: Any, **_: Any) -> Any:
        return np.asarray(processor.sample_frames(metadata, fps=SAMPLED))

    def run(_: int) -> Any:
        frames, _ = utils.load_video(str(folder / "video.mp4"), backend="pyav", sample_indices_fn=chosen)
        planes = torch.from_numpy(np.asarray(frames)).permute(0, 3, 1, 2)
        return processor([planes], do_sample_frames=False, return_tensors="pt")

    return Call(run, lambda result: result["pixel_values_videos"].numpy())


def stages(quick: bool) -> list[Stage]:
    """One video; it needs the extra `video`."""
    width, height, seconds = (64, 48, 2) if quick else (1920, 1080, 30)
    return [
        Stage(
            f"video, {seconds} s of {'64 x 48' if quick else '1080p'} H.264",
            "video",
            "uint8",
            {"ours": _ours, "reference": _reference},
            f"video-{width}x{height}x{seconds}",
            partial(_prepare, width, height, seconds),
            items=RATE * seconds,
            unit="frames of the file",
            programs=False,
            rounds=(1, 1) if quick else (3, 7),
            note="two frames a second; the floor is the bare decoding by PyAV, which the reference reads by too",
        )
    ]
