"""An export of a run on the Hugging Face Hub, with a model card of what is known about it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Literal

from pad_pipeline import __version__
from pad_pipeline.errors import UserError
from pad_pipeline.train.model.export_c_abstractor import NOTE
from pad_pipeline.train.run.folder import Run, read_run
from pad_pipeline.train.run.results import export_run

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_SETTINGS = (
    *("global_batch", "epochs", "learning_rate", "projector_kind", "select_layer", "geometry"),
    *("template", "patch_weight", "patch_loss", "lora_rank", "max_length", "seed"),
)
_HELD_OUT = {
    "validation/caption_loss": "caption loss",
    "validation/patch_loss": "patch loss",
    "validation/cosine": "cosine",
    "validation/align": "Align",
}


def push_run(
    url: str,
    repository: str,
    dtype: Literal["float32", "bfloat16"],
    *,
    private: bool,
    dry_run: bool,
) -> list[str]:
    """Export the run at `url` for transformers and upload it; returns lines that say what was done.

    `repository` is OWNER/NAME; it is made where it is not there. A dry run exports, writes the
    card and uploads nothing. Raises `UserError` where the run has not finished or the Hub refuses.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"expected a repository as OWNER/NAME, found {repository!r}")
    run = read_run(url)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "export")
        lines = export_run(url, str(folder), "transformers", dtype)
        (folder / "README.md").write_text(model_card(run, repository), encoding="utf-8")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sizes = [f"  {path.relative_to(folder)} ({_size(path)})" for path in files]
        if not dry_run:
            _upload(folder, repository, private)
        done = "would upload" if dry_run else "uploaded"
        return [
            f"{done} {len(files)} files to {repository}{' (private)' if private else ''}",
            *sizes,
            *lines[1:],
            *(["the model card:", (folder / "README.md").read_text("utf-8")] if dry_run else []),
        ]


def model_card(run: Run, repository: str) -> str:
    """The card in Markdown: models, recipe, held-out figures. No paths of this machine."""
    from huggingface_hub import ModelCardData

    config, facts = run.facts["config"], run.facts
    bases = [each for each in (config["llm"], config["vision"]) if _is_on_hub(each)]
    data = ModelCardData(
        base_model=bases or None,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["llava", "pad-pipeline"],
    )
    stage = {
        "pretrain": "stage 1: its projector was trained on captions, the rest is unchanged",
        "finetune": "stage 2: projector and language model were trained on conversations",
    }[facts["stage"]]
    last = facts.get("last", {})
    figures = [f"| {label} | {last[key]:.4f} |" for key, label in _HELD_OUT.items() if key in last]
    settings = [f"| {name} | {config[name]} |" for name in _SETTINGS if name in config]
    return "\n".join(
        [
            "---",
            data.to_yaml(),
            "---",
            "",
            f"# {repository.split('/')[1]}",
            "",
            f"A LLaVA model after {stage}. Patch-aligned training (arXiv 2505.17316) by "
            f"pad-pipeline {__version__}, on {facts['num_samples']:,} samples.",
            "",
            *(f"- {part}: {_name(config[key])}" for part, key in _PARTS.items()),
            "",
            "The licences of these models and of the data apply.",
            "",
            *_loading(config, repository),
            "",
            "| setting | value |",
            "|---|---|",
            *settings,
            *(["", "| on held-out samples | value |", "|---|---|", *figures] if figures else []),
            "",
        ]
    )


def _loading(config: dict[str, Any], repository: str) -> list[str]:
    if config["projector_kind"] == "c-abstractor":
        return [f"No program has its C-Abstractor: {NOTE} says how to load it."]
    name = "LlavaNext" if config["geometry"] == "anyres" else "Llava"
    return [
        "```python",
        f"from transformers import AutoProcessor, {name}ForConditionalGeneration",
        "",
        f'model = {name}ForConditionalGeneration.from_pretrained("{repository}")',
        f'processor = AutoProcessor.from_pretrained("{repository}")',
        "```",
    ]


_PARTS = {"vision tower": "vision", "language model": "llm"}


def _is_on_hub(reference: str) -> bool:
    return bool(_REPOSITORY.fullmatch(reference)) and not Path(reference).exists()


def _name(reference: str) -> str:
    """A hub id, or the name of a local folder alone."""
    if _is_on_hub(reference):
        return f"[{reference}](https://huggingface.co/{reference})"
    return Path(reference).name


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _upload(folder: Path, repository: str, private: bool) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api: Any = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload the model")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the Hugging Face Hub does not take {repository} ({reason}); check the name, the "
            "network, and `hf auth login`"
        ) from error
