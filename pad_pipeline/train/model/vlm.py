"""Vision tower, projector and language model as one, and the caption loss.

Shapes: B samples, I images, C channels, H, W pixels, S vision patches (grid²), V vision width, P
projected tokens, D LLM width, T sequence of text and image tokens, N supervised positions, L
labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from transformers import PreTrainedModel

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import list_keys
from pad_pipeline.train.caption_loss import summed_cross_entropy
from pad_pipeline.train.choices import TrainingStage, trains_llm
from pad_pipeline.train.constants import IGNORE_INDEX
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.model.compatibility import check_compatible
from pad_pipeline.train.model.packed_attention import (
    PACKED,
    check_packable,
    has_varlen_kernels,
    sample_bounds,
)
from pad_pipeline.train.model.projectors import Projector
from pad_pipeline.train.model.towers import encode_patches
from pad_pipeline.train.tiling import Tiling, pack_views


class Passes(NamedTuple):
    """What a batch gives on its way through the model."""

    tokens_IPD: Tensor
    caption_sum: Tensor
    """The caption loss, summed over its targets."""
    num_targets: int
    reconstruction_sum: Tensor | None = None
    """The reconstruction loss (VLSA), summed over images."""


class VisionLanguageModel(nn.Module):
    """LLaVA's model: image tokens stand where a prompt has the image.

    `vision` is in evaluation mode, and frozen but for VLSA. `compute_dtype` is that of the passes:
    modules whose weights are kept in another (trained ones in float32) run under autocast; None
    leaves that to the caller. Batches are padded on the right.

    `forward` is both losses' way for wrappers that hook it (FSDP); the methods that it calls serve
    everyone else.
    """

    def __init__(
        self,
        vision: PreTrainedModel,
        projector: Projector,
        llm: PreTrainedModel,
        *,
        compute_dtype: torch.dtype | None = None,
        select_layer: int = -2,
    ) -> None:
        super().__init__()
        self.reconstructs = False
        """Whether `forward` gives a reconstruction loss."""
        check_compatible(vision.config, projector, llm.config)
        self.vision: Any = vision
        self.select_layer = select_layer
        self.projector = projector
        self.llm: Any = llm
        self.compute_dtype = compute_dtype
        self.freeze("pretrain")
        self.train()

    @property
    def device(self) -> torch.device:
        """Where the projector is."""
        return next(self.projector.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the passes."""
        return self.compute_dtype or self.embedding.dtype

    @property
    def embedding(self) -> Tensor:
        """The language model's input embedding, (W, D)."""
        weight = self.llm.get_input_embeddings().weight
        # FSDP: whole from a forward pass to the backward pass, else a collective
        return weight.full_tensor() if hasattr(weight, "full_tensor") else weight

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """Training mode of projector and language model; the vision tower stays as it is used."""
        super().train(mode)
        self.vision.eval()
        return self

    # What is trained

    def freeze(self, stage: TrainingStage) -> None:
        """Choose what is trained: in `pretrain` the projector, in `finetune` the LLM as well.

        What is trained is kept in float32 (float64 stays). Of an LLM with low-rank adapters only
        those are trained. Frozen weights lose their gradients.
        """
        for name, parameter in self.named_parameters():
            trained = self.is_trained(name, stage)
            parameter.requires_grad_(trained)
            if not trained:
                parameter.grad = None
            elif parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()

    def is_trained(self, name: str, stage: TrainingStage) -> bool:
        """Whether `stage` trains the parameter of that name."""
        return name.startswith("projector.") or (
            name.startswith("llm.") and trains_llm(stage) and ("lora_" in name or not self.has_lora)
        )

    @property
    def has_lora(self) -> bool:
        """Whether the language model carries low-rank adapters."""
        return hasattr(self.llm, "peft_config")

    def named_trained_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Names (`projector.*`, `llm.*`) and parameters of what is trained."""
        return (entry for entry in self.named_parameters() if entry[1].requires_grad)

    def trained_parameters(self) -> list[Parameter]:
        """The parameters of what is trained."""
        return [parameter for _, parameter in self.named_trained_parameters()]

    def trained_state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the trained weights by name, detached and not copied."""
        return {name: parameter.detach() for name, parameter in self.named_trained_parameters()}

    def load_trained_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Copy what `trained_state` gave back; `UserError` with the first names that differ."""
        trained = dict(self.named_trained_parameters())
        differing = list_keys(
            {
                "missing": trained.keys() - state.keys(),
                "unexpected": state.keys() - trained.keys(),
                "of another shape": [
                    name
                    for name in trained.keys() & state.keys()
                    if trained[name].shape != state[name].shape
                ],
            }
        )
        if differing:
            raise UserError(f"{source} does not hold what is trained here: {differing}")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(state[name])

    def parameter_counts(self) -> dict[str, tuple[int, int]]:
        """Trained and frozen parameters of `vision`, `projector` and `llm`; shared ones once."""
        counts: dict[str, tuple[int, int]] = {}
        for name, part in self.named_children():
            trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
            counts[name] = (trained, sum(p.numel() for p in part.parameters()) - trained)
        return counts

    def describe(self) -> str:
        """One line per part: what it is, and how many parameters are trained and frozen."""
        what = self.part_names()
        return "\n".join(
            f"{name} ({what[name]}): {trained:,} parameters trained, {frozen:,} frozen"
            for name, (trained, frozen) in self.parameter_counts().items()
        )

    def part_names(self) -> dict[str, str]:
        """What each part is, in a few words."""
        return {
            "vision": f"{type(self.vision).__name__} {self.projector.grid}x{self.projector.grid}",
            "projector": f"{self.projector.kind}, {self.projector.num_tokens} tokens per "
            + ("image" if self.projector.image_newline is None else "view of an image"),
            "llm": f"{self.llm.config.model_type}{' with LoRA' if self.has_lora else ''}",
        }

    def enable_activation_checkpointing(self, kept_layers: int = 0) -> None:
        """Compute the LLM's activations again in the backward pass; in training mode only.

        The last `kept_layers` layers keep theirs: of them the backward pass needs them first.
        """
        self.llm.activation_checkpointing_enable()
        # transformers lets the word embeddings ask for gradients, for a kind of checkpointing that
        # is not used here.
        self.llm.disable_input_require_grads()
        layers = self.llm.get_decoder().layers
        for layer in layers[len(layers) - min(kept_layers, len(layers)) :]:
            layer.gradient_checkpointing = False

    def enable_packing(self, max_length: int) -> str:
        """Take batches whose samples stand in one row; returns how attention is computed then.

        Raises `UserError` where the LLM's attention cannot be packed for samples of `max_length`.
        """
        check_packable(self.llm.config, max_length)
        self.llm.set_attn_implementation(PACKED)
        if has_varlen_kernels(self.device, self.dtype):
            return "torch's kernels for sequences of varying length"
        return "scaled dot-product attention, sample by sample"

    def compile_layers(self) -> None:
        """Compile the layers of the LLM one by one: they share one program."""
        for layer in self.llm.get_decoder().layers:
            layer.compile(dynamic=True)

    # The passes

    def forward(self, batch: Batch, draw: str | None = None) -> Passes:
        """Image tokens and losses; `draw` is of models that draw at random, which this does not."""
        del draw
        tokens_IPD = self.project(self.encode(batch.pixels_ICHW))
        caption_sum, num_targets = self.caption_loss(batch, tokens_IPD)
        return Passes(tokens_IPD, caption_sum, num_targets)

    def encode(self, pixels_ICHW: Tensor) -> Tensor:
        """Patches (I, S, V): the output of the tower's layer `select_layer`, no class token.

        `pixels_ICHW` are normalised floats. What lies behind that layer is not computed. Without
        images there are no patches; where the tower is trained, its gradients are exactly zero.
        """
        trained = any(parameter.requires_grad for parameter in self.vision.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            if trained and not len(pixels_ICHW):
                return self._encode(pixels_ICHW.new_zeros(1, *pixels_ICHW.shape[1:]))[:0]
            return self._encode(pixels_ICHW)

    def _encode(self, pixels_ICHW: Tensor) -> Tensor:
        weight = next(self.vision.parameters())
        if not len(pixels_ICHW):
            return weight.new_zeros(0, self.projector.grid**2, self.projector.vision_width)
        with self._precision(weight):
            return encode_patches(self.vision, pixels_ICHW.to(weight.dtype), self.select_layer)

    def project(self, patches_ISV: Tensor) -> Tensor:
        """Tokens (I, P, D). Without images none, but joined to the projector's graph: a batch of
        text alone gives the projector gradients of exactly zero."""
        none = not len(patches_ISV)
        if none:
            blank_1SV = patches_ISV.new_zeros(1, *patches_ISV.shape[1:])
            patches_ISV = torch.cat([patches_ISV, blank_1SV])  # joined to the tower's graph, too
        weight = next(self.projector.parameters())
        with self._precision(weight):
            if self.compute_dtype is None or weight.dtype == self.compute_dtype:
                patches_ISV = patches_ISV.to(weight.dtype)
            tokens_IPD = self.projector(patches_ISV)
        return tokens_IPD[:0] if none else tokens_IPD

    def embed(self, batch: Batch, tokens_IPD: Tensor) -> Tensor:
        """The LLM's input (B, T, D): word embeddings, and image tokens at the marked positions."""
        tokens_ND = self.pack(tokens_IPD, batch.tilings)
        assert int(batch.image_mask_BT.sum()) == len(tokens_ND), (
            f"{int(batch.image_mask_BT.sum())} positions for {len(tokens_ND)} image tokens"
        )
        words_BTD = self.llm.get_input_embeddings()(batch.input_ids_BT)
        return words_BTD.masked_scatter(
            batch.image_mask_BT.unsqueeze(-1), tokens_ND.to(words_BTD.dtype)
        )

    def pack(self, tokens_IPD: Tensor, tilings: Sequence[Tiling]) -> Tensor:
        """(N, D) the tokens that the LLM reads of all images; `tilings` are () without tiles."""
        newline_D = self.projector.image_newline
        if newline_D is None:
            assert not tilings, "the projector has no newline for images in tiles"
            return tokens_IPD.flatten(0, 1)
        return pack_views(tokens_IPD, tilings, newline_D)

    def hidden(self, inputs_BTD: Tensor, packed_lengths: Sequence[int] = ()) -> Tensor:
        """The LLM's last hidden states (B, T, D), before the output layer.

        No attention mask: padding on the right is never seen by what stands before it, and the
        fastest kernels take no mask. `packed_lengths` are the tokens of the samples where all
        stand in one row (see `enable_packing`); each sees itself only.
        """
        options: dict[str, Any] = {}
        if packed_lengths:
            assert self.llm.config._attn_implementation == PACKED, "packing is not enabled"
            bounds, positions = sample_bounds(packed_lengths, inputs_BTD.device)
            longest = max(packed_lengths)
            options = {
                "position_ids": positions,
                **{"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds},
                **{"max_length_q": longest, "max_length_k": longest},
            }
        decoder = self.llm.get_decoder()
        with self._precision(self.llm.get_output_embeddings().weight):
            return decoder(inputs_embeds=inputs_BTD, use_cache=False, **options).last_hidden_state

    def logits(self, hidden_D: Tensor) -> Tensor:
        """Scores (..., W) of hidden states (..., D), at least float32."""
        head = self.llm.get_output_embeddings()
        with self._precision(head.weight):
            scores = head(hidden_D)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def caption_loss(self, batch: Batch, tokens_IPD: Tensor) -> tuple[Tensor, int]:
        """The cross entropy summed over the supervised tokens (float32), and their number.

        The token at t is predicted at t - 1; logits are computed there alone. Without a supervised
        token the sum is 0 with zero gradients.
        """
        attention_BT = batch.attention_BT
        assert attention_BT.is_cuda or bool((attention_BT[:, 1:] <= attention_BT[:, :-1]).all()), (
            "batches are padded on the right"
        )
        targets_BT = batch.labels_BT[:, 1:]
        supervised_BT = targets_BT != IGNORE_INDEX
        hidden_BTD = self.hidden(self.embed(batch, tokens_IPD), batch.packed_lengths)
        places_N = supervised_BT.flatten().nonzero().squeeze(-1)  # waits for the device, once
        hidden_ND = hidden_BTD[:, :-1].flatten(0, 1)[places_N]
        targets_N = targets_BT.flatten()[places_N]
        num_words = len(self.llm.get_output_embeddings().weight)
        return summed_cross_entropy(self.logits, hidden_ND, targets_N, num_words), len(targets_N)

    @torch.no_grad()
    def label_embeddings(self, label_ids: Sequence[Sequence[int]]) -> Tensor:
        """(L, D) float32: of each label the mean of the raw embedding rows of its token ids.

        Paper, equation 2. Every label has at least one id.
        """
        assert all(label_ids), "a label without a token"
        weight_WD = self.embedding
        dtype = torch.promote_types(weight_WD.dtype, torch.float32)
        sums_LD = torch.zeros(
            len(label_ids), weight_WD.shape[1], dtype=dtype, device=weight_WD.device
        )
        if not label_ids:
            return sums_LD
        device = weight_WD.device
        lengths_L = torch.tensor([len(ids) for ids in label_ids], device=device)
        flat = torch.tensor([each for ids in label_ids for each in ids], device=device)
        rows = torch.arange(len(label_ids), device=device).repeat_interleave(lengths_L)
        sums_LD.index_add_(0, rows, weight_WD[flat].to(dtype))
        return sums_LD / lengths_L.unsqueeze(-1)

    def _precision(self, weight: Tensor) -> AbstractContextManager[Any]:
        """Autocast to the data type of the passes where the weights are kept in another."""
        if self.compute_dtype is None or weight.dtype == self.compute_dtype:
            return nullcontext()
        return torch.autocast(weight.device.type, dtype=self.compute_dtype)
