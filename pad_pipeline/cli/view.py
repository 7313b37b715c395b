"""The commands that show a data set: in the browser, and one image in the terminal."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from pad_pipeline.errors import UserError


def view(
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    images: str | None = None,
    run: tuple[str, ...] = (),
    service: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8500,
) -> None:
    """Show a data set in the browser: pictures with masks, filters, tags, failures, comparisons.

    Nothing is written but an index in the cache folder (PAD_CACHE, else ~/.cache/pad-pipeline).

    Args:
        output: The data set, as `annotate` wrote it, finished or not.
        images: Where the images are now, if not where they were annotated.
        run: Folders that `analyze` or `reproduce` wrote: what projectors find in single images.
        service: Address of a running `serve`, for a page that annotates one image.
        host: Address to listen at; anyone who reaches it can look.
        port: Port to listen at; 0 takes a free one.
    """
    try:
        from pad_pipeline.view.server import open_viewer, serve, take_port
    except ImportError as error:
        raise UserError(
            f"the viewer needs packages that are not installed ({error}): "
            "pip install 'pad-pipeline[view]'"
        ) from error
    from pad_pipeline.cli.reports import say

    with take_port(host, port) as listening:
        viewer = open_viewer(output, images=images, runs=run, service=service)
        for notice in viewer.notices():
            say(f"note: {notice}")
        serve(viewer, listening, host, lambda url: say(f"look at {url} (Ctrl-C ends)"))


def show(
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    image_id: Positional[Annotated[str, arg(metavar="IMAGE_ID")]],
    images: str | None = None,
    width: int = 72,
) -> None:
    """Show one image of a data set in the terminal: a small picture and its regions.

    Args:
        output: The data set, as `annotate` wrote it.
        image_id: Which image.
        images: Where the images are now, if not where they were annotated.
        width: Columns of the picture; 0 leaves it out.
    """
    from pad_pipeline.dataset.preview import print_preview

    print_preview(output, image_id, images=images, width=width)
