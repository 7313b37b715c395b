"""The command `view`: a data set in the browser."""

from __future__ import annotations

from pad_pipeline.cli.options import DataSet, Images
from pad_pipeline.cli.reports.output import say
from pad_pipeline.cognition.folder import is_conversations
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.ports import listen


def view(
    output: DataSet,
    images: Images = None,
    run: tuple[str, ...] = (),
    ground_truth: str | None = None,
    match: str | None = None,
    service: str | None = None,
    review: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8500,
) -> None:
    """Show a data set in the browser, or what `conversations` wrote.

    Pictures with masks, filters, tags, failures and comparisons. The data set may be unfinished,
    or a COCO file. Marks that you set go to one file beside the shards; they and an index in the
    cache folder (PAD_CACHE, else ~/.cache/pad-pipeline) are all that is written.

    Args:
        run: Folders that `analyze` or `reproduce` wrote: what projectors find in single images;
            or that `evaluate … --against` wrote: how two evaluations differ.
        ground_truth: COCO's instances JSON of the images: pages of what was found, missed and
            mistaken, tag by tag and image by image. Matching takes a while the first time.
        match: JSON object of tag -> category, for tags with another name than their category.
        service: Address of a running `serve`, for a page that annotates one image.
        review: File of the marks, path or s3://; without it _review.jsonl in the data set's folder.
        host: Address to listen at; everyone who can reach it sees the data set, and marks it with
            the token that is printed.
        port: Port to listen at; 0 takes a free one.
    """
    try:
        from pad_pipeline.view.app import make_app
        from pad_pipeline.view.conversations import app as of_conversations
        from pad_pipeline.view.conversations.entries import ConversationPages
        from pad_pipeline.view.server import open_viewer, serve
    except ImportError as error:
        raise UserError(
            f"the viewer needs packages that are not installed ({error}): "
            "pip install 'pad-pipeline[view]'"
        ) from error
    if is_conversations(output):
        options = {
            "run": run,
            "ground_truth": ground_truth,
            "match": match,
            "service": service,
            "review": review,
        }
        for name, value in options.items():
            if value:
                raise UserError(
                    Setting(name), f" is for data sets, and {output} holds conversations"
                )
        pages = ConversationPages(output, images)
        with listen(host, port) as listening:
            app = of_conversations.make_app(pages, host)
            serve(app, listening, host, lambda url: say(f"serving at {url} (Ctrl-C stops)"))
        return
    with listen(host, port) as listening:
        viewer = open_viewer(
            output,
            images=images,
            runs=run,
            service=service,
            ground_truth=ground_truth,
            match=match,
            review=review,
            host=host,
        )
        for notice in viewer.notices():
            say(f"note: {notice}")

        def announce(url: str) -> None:
            say(f"serving at {url} (Ctrl-C stops)")
            if viewer.writing.token is not None:
                say(f"to mark regions, open it once as {url}/?token={viewer.writing.token}")

        serve(make_app(viewer, host), listening, host, announce)
