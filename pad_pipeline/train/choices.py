"""The choices of a training run, by the names that its config, its files and its errors use."""

from typing import Literal

TrainingStage = Literal["pretrain", "finetune"]
"""Stage 1 trains the projector on captions, stage 2 projector and LLM on conversations."""

ProjectorKind = Literal["linear", "mlp", "c-abstractor"]

PatchLossKind = Literal["region", "patch", "contrastive"]

Template = Literal["vicuna-v1", "llama-3", "tokenizer"]
"""How conversations are written; "tokenizer" is its own chat template."""

FrameGeometry = Literal["crop", "pad", "anyres"]
"""How an image becomes the vision tower's square, or several ("anyres", as in LLaVA-NeXT)."""
