"""`omni search`: what is most like a text or a medium, of all that `omni encode` has put into a table."""

from pathlib import Path
from typing import Annotated

import typer

from omni.errors import printable


def search(
    query: Annotated[str | None, typer.Argument(help="A text, or the path or URL of a medium.")] = None,
    where: Annotated[Path, typer.Option("--in", "-i", help="Folder of omni encode, parquet or lance.")] = Path(
        "embeddings"
    ),
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="Most rows to show.")] = 10,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Where the table's model lies now.")] = None,
    instruction: Annotated[str | None, typer.Option(help="Of the query, where the table has texts.")] = None,
    exact: Annotated[bool, typer.Option(help="Look at every vector, also where there is an index.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a contact sheet here.")] = None,
    recall: Annotated[int, typer.Option(min=0, help="Report how much the index finds, by so many queries.")] = 0,
) -> None:
    """Print what is most like a text, an image, audio or a video, with the cosine of each."""
    from omni.bulk import search as bulk_search
    from omni.errors import InputError

    if recall:
        share = bulk_search.recall(where, count, recall)
        typer.echo(f"recall@{count} of the index against exact search, {recall} queries: {share:.4f}")
    if query is None:
        if not recall:
            raise InputError("nothing_to_search", "name a text, or a medium")
        return
    hits = bulk_search.search(query, where, k=count, model=model, instruction=instruction, exact=exact)
    for hit in hits:
        typer.echo(printable(f"{hit.score:.4f}  {hit.kind:5}  {hit.source}"))
    if html is not None:
        from omni.bulk.contact_sheet import contact_sheet

        html.write_text(contact_sheet(query, hits, where), encoding="utf-8")
        typer.echo(f"contact sheet: {html}", err=True)
