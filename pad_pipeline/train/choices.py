"""The choices of a training run, by the names that its config, its files and its errors use."""

from typing import Literal

TrainingStage = Literal["pretrain", "finetune", "vlsa-1", "vlsa-2", "vlsa-3"]
"""Stage 1 trains the projector on captions, stage 2 projector and LLM on conversations; behind
them the three stages after VLSA."""

VlsaStage = Literal["vlsa-1", "vlsa-2", "vlsa-3"]

ProjectorKind = Literal["linear", "mlp", "c-abstractor", "perceiver"]

PAPER_PROJECTORS: tuple[ProjectorKind, ...] = ("linear", "mlp", "c-abstractor")
"""Those of the paper's Tables 1 to 3 and 8."""

PatchLossKind = Literal["region", "patch", "contrastive"]

Template = Literal["vicuna-v1", "llama-3", "tokenizer"]
"""How conversations are written; "tokenizer" is its own chat template."""

FrameGeometry = Literal["crop", "pad", "anyres"]
"""How an image becomes the vision tower's square, or several ("anyres", as in LLaVA-NeXT)."""


def trains_llm(stage: TrainingStage) -> bool:
    """Whether the language model's weights are trained."""
    return stage in ("finetune", "vlsa-3")


def reads_conversations(stage: TrainingStage) -> bool:
    """Whether samples are conversations in the template's form, not an image and its caption."""
    return stage not in ("pretrain", "vlsa-1")


def is_vlsa(stage: TrainingStage) -> bool:
    """Whether images are reconstructed beside the language model's loss."""
    return stage.startswith("vlsa-")
