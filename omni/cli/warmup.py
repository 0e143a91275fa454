"""`omni warmup`: compiled programs on disk before the first image, question or request comes."""

from typing import Annotated

import typer

from omni.cli.common import Dtype, ModelArgument, ModelOption, Quantization, chosen_model


def warmup(
    checkpoint: ModelArgument = None,
    model: ModelOption = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=256, help="Compile what omni serve needs with this --max-batch, too.")
    ] = None,
    max_length: Annotated[int, typer.Option(min=64, help="Of omni serve.")] = 4096,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Of the largest image or frame; the checkpoint's own when not given.")
    ] = None,
    quantize: Annotated[Quantization | None, typer.Option(help="int8, where the model will be loaded so.")] = None,
    dtype: Dtype = None,
) -> None:
    """Compile a model's programs and keep them on disk, so that what comes next does not wait for them.

    The towers have at most 24 programs each, whatever the sizes of media. A second call finds them all.
    """
    import jax

    import omni
    from omni.tools.warmup import warm_up

    loaded = omni.load(chosen_model(checkpoint, model), dtype=dtype, quantize=quantize)
    vision = loaded.config.vision
    patches = None if max_pixels is None or vision is None else max(1, max_pixels // vision.patch_size**2)
    seconds, programs, known = 0.0, 0, 0
    for one in warm_up(loaded, max_batch=max_batch, max_length=max_length, most_patches=patches):
        seconds, programs, known = seconds + one.seconds, programs + one.programs, known + one.from_disk
        note = "  from disk" if one.from_disk == one.programs else ""
        typer.echo(f"{one.part:7} {one.name:32} {one.seconds:7.2f} s{note}")
    place = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    kept = f"kept in {place}" if place else "not kept: JAX was told to keep no programs"
    typer.echo(f"{programs} programs in {seconds:.1f} s, {known} of them from disk; {kept}")
