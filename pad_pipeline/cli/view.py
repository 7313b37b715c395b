"""The command `view`: a data set in the browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pad_pipeline.cli.options import DataSet, Images, to_flag
from pad_pipeline.cli.reports.output import say
from pad_pipeline.cognition.decoding import IndexDecoder, load_decoder
from pad_pipeline.cognition.folder import is_conversations
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.ports import listen
from pad_pipeline.secret import read_secret

_TOKEN_VARIABLE = "PAD_VIEW_TOKEN"


def view(
    output: DataSet,
    images: Images = None,
    run: tuple[str, ...] = (),
    codes: str | None = None,
    ground_truth: str | None = None,
    match: str | None = None,
    service: str | None = None,
    review: str | None = None,
    token_file: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8500,
) -> None:
    """Show a data set in the browser, or what `conversations` wrote.

    Pictures with masks, filters, tags, failures and comparisons. The data set may be unfinished,
    or a COCO file. Marks that you set go to one file beside the shards; they and an index in the
    cache folder (PAD_CACHE, else ~/.cache/pad-pipeline) are all that is written.

    Args:
        run: Folders that `analyze` or `reproduce` wrote: what projectors find in single images;
            that `train vlsa` wrote: reconstructed images; or that `evaluate … --against` wrote: how
            two evaluations differ.
        codes: VQ model of conversations, if it is not where it was when they were written.
        ground_truth: COCO's instances JSON of the images: pages of what was found, missed and
            mistaken, tag by tag and image by image. Matching takes a while the first time.
        match: JSON object of tag -> category, for tags with another name than their category.
        service: Address of a running `serve`, for a page that annotates one image.
        review: File of the marks, path or s3://; without it _review.jsonl in the data set's folder.
        token_file: File whose first line is the token that marking needs; without it
            PAD_VIEW_TOKEN, else beyond this machine a new one, which is printed.
        host: Address to listen at; everyone who can reach it sees the data set, and marks it with
            the token.
        port: Port to listen at; 0 takes a free one.
    """
    try:
        from pad_pipeline.view.app import make_app
        from pad_pipeline.view.conversations import app as of_conversations
        from pad_pipeline.view.conversations.entries import ConversationPages
        from pad_pipeline.view.reconstructions import is_vlsa_run, read_vlsa_run
        from pad_pipeline.view.server import open_viewer, serve
    except ImportError as error:
        raise UserError(
            f"the viewer needs packages that are not installed ({error}): "
            "pip install 'pad-pipeline[view]'"
        ) from error
    if is_conversations(output):
        options = {
            "ground_truth": ground_truth,
            "match": match,
            "service": service,
            "review": review,
            "token_file": token_file,
        }
        for name, value in options.items():
            if value:
                raise UserError(
                    Setting(name), f" is for data sets, and {output} holds conversations"
                )
        pages = ConversationPages(output, images)
        for folder in run:
            if not is_vlsa_run(folder):
                raise UserError(
                    f"{folder} is no run of `train vlsa`, which alone can be shown beside "
                    "conversations; give it with a data set"
                )
        vlsa_runs = [read_vlsa_run(folder) for folder in run]
        decoder = _decoder(pages.manifest, codes)
        if isinstance(decoder, str):
            say(f"note: the indices are not decoded to pictures: {decoder}")
        with listen(host, port) as listening:
            app = of_conversations.make_app(pages, host, decoder=decoder, vlsa_runs=vlsa_runs)
            serve(app, listening, host, lambda url: say(f"serving at {url} (Ctrl-C stops)"))
        return
    if codes is not None:
        raise UserError(Setting("codes"), f" is for conversations, and {output} holds none")
    token = read_secret("a token", token_file, _TOKEN_VARIABLE)
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
            token=token,
        )
        for notice in viewer.notices():
            say(f"note: {notice}")

        def announce(url: str) -> None:
            say(f"serving at {url} (Ctrl-C stops)")
            if token is not None:
                place = token_file or _TOKEN_VARIABLE
                say(f"to mark regions, open it once as {url}/?token=… with the token of {place}")
            elif viewer.writing.token is not None:
                say(f"to mark regions, open it once as {url}/?token={viewer.writing.token}")

        serve(make_app(viewer, host), listening, host, announce)


def _decoder(manifest: Mapping[str, Any], codes: str | None) -> IndexDecoder | str:
    """The VQ model of conversations; where nobody named one and it is not there, the reason."""
    try:
        return load_decoder(manifest, codes)
    except UserError as error:
        if codes is not None:
            raise
        return error.spell(to_flag)
