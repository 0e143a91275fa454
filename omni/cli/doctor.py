"""`omni doctor`: what this installation has, what it lacks, and how to get that."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def doctor(
    extras: Annotated[
        list[str] | None, typer.Argument(help="Extras that have to be installed, such as video or server.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Look at versions, devices, decoders, caches and extras; name what is missing and how to get it.

    The exit code is 1 where something is missing or wrong that is needed: a package, a device, or an extra that was
    named. No checkpoint is read, and no network is used.
    """
    from omni.tools.doctor import diagnose

    found = diagnose(extras or ())
    if as_json:
        typer.echo(json.dumps({"good": found.is_good, "findings": [asdict(one) for one in found.findings]}, indent=1))
        raise typer.Exit(0 if found.is_good else 1)
    section = ""
    for one in found.findings:
        if one.section != section:
            section = one.section
            typer.echo(f"\n{section}" if one is not found.findings[0] else section)
        mark = {"ok": " ", "note": "-", "missing": "!", "wrong": "!"}[one.state]
        typer.echo(f"{mark} {one.name:20} {one.text}")
        if one.remedy:
            typer.echo(f"  {'':20} {one.remedy}")
    typer.echo("\neverything that is needed is here" if found.is_good else "\nlines with ! have to be mended")
    raise typer.Exit(0 if found.is_good else 1)
