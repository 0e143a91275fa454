"""The stages of the benchmark, by groups."""

from benchmarks.stages import audio, gated_delta, images, mel, start, text, transcription, video, vision
from benchmarks.stages.stage import Stage

GROUPS = (images, video, mel, vision, audio, text, gated_delta, start, transcription)


def stages(quick: bool = False) -> list[Stage]:
    """All stages, in the order of the table.

    Args:
        quick: small sizes that show that everything works, and nothing about speed.
    """
    return [stage for group in GROUPS for stage in group.stages(quick)]
