"""`omni serve`: a model behind OpenAI's interface, and a page to talk to it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from omni.cli.common import Adapters, Dtype, ModelArgument, ModelOption, Quantization, chosen_model
from omni.errors import InputError


def serve(
    checkpoint: ModelArgument = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    api_key: Annotated[
        list[str] | None, typer.Option(envvar="OMNI_API_KEY", help="Ask for it; may be given again for more.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file of API keys, one a line.")] = None,
    model: ModelOption = None,
    name: Annotated[str | None, typer.Option(help="What the model is called in requests.")] = None,
    dtype: Dtype = None,
    adapter: Adapters = None,
    quantize: Annotated[
        Quantization | None, typer.Option(help="int8 keeps weights in half the memory of bfloat16.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=256, help="Most replies written at the same time.")] = 16,
    max_queue: Annotated[int, typer.Option(min=0, help="Most requests that wait beyond those.")] = 64,
    max_length: Annotated[int, typer.Option(min=64, help="Tokens of a conversation that there is memory for.")] = 4096,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a reply.")] = 2048,
    request_seconds: Annotated[float, typer.Option(min=0.1, help="Most seconds of a request.")] = 600.0,
    body_mib: Annotated[int, typer.Option(min=1, help="Most MiB of a request's JSON, media included.")] = 64,
    upload_mib: Annotated[int, typer.Option(min=1, help="Most MiB of an uploaded recording.")] = 1024,
    allow_folder: Annotated[list[Path] | None, typer.Option(help="Let messages name files of this folder.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="Let requests address the server by this name.")] = None,
    cors_origin: Annotated[list[str] | None, typer.Option(help="Let pages of this origin call.")] = None,
    share_cache: Annotated[bool, typer.Option("--share-cache", help="One cache for all API keys.")] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write what people send into the log.")] = False,
    warm_up: Annotated[
        bool | None, typer.Option(help="Compile every program before it is ready; all but the demo do.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes behind the port, one for each GPU.")] = 1,
    dimensions: Annotated[
        list[int] | None, typer.Option(help="A length that embeddings may be cut to, where the checkpoint tells none.")
    ] = None,
) -> None:
    """Serve a model to OpenAI's clients and to a page at /."""
    try:
        from omni.server.run import run
        from omni.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise InputError(
            "needs_server_extra", f'{error.name} is not installed: pip install "omni-jax[server]"'
        ) from None
    import omni

    named = chosen_model(checkpoint, model)
    keys = list(api_key or [])
    if api_key_file is not None:
        keys += [line.strip() for line in api_key_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    settings = ServerSettings(
        name=name,
        api_keys=keys,
        host=host,
        hosts=tuple(allow_host or ()),
        cors_origins=tuple(cors_origin or ()),
        folders=tuple(allow_folder or ()),
        max_batch=max_batch,
        max_queue=max_queue,
        max_length=max_length,
        max_new_tokens=max_new_tokens,
        request_seconds=request_seconds,
        body_bytes=body_mib << 20,
        upload_bytes=upload_mib << 20,
        share_cache=share_cache,
        log_prompts=log_prompts,
        warm_up=named != "demo" if warm_up is None else warm_up,
        trained_dimensions=tuple(sorted(dimensions or ())),
    )
    load = partial(
        omni.load,
        named,
        dtype=dtype,
        quantize=quantize,
        adapters=tuple(adapter or ()),
        limits=settings.limits,
        sources=settings.sources,
    )
    run(load, settings, port, workers)
