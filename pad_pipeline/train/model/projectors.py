"""Projectors from vision patches to language-model tokens, and their weights under public names.

Shapes: B batch, S vision patches (grid²), V vision width, P projected tokens (token_grid²), D LLM
width, R regions (padded).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import load_strictly
from pad_pipeline.train.choices import ProjectorKind
from pad_pipeline.train.model.c_abstractor import CAbstractor
from pad_pipeline.train.model.perceiver import Perceiver

_PREFIX: dict[ProjectorKind, str] = {
    "linear": "model.mm_projector.",
    "mlp": "model.mm_projector.",
    "c-abstractor": "abstractor.",
    "perceiver": "perceiver.",
}
"""What stands before each parameter's name: LLaVA's, Honeybee's for the C-Abstractor, and ours
for the perceiver."""

NEWLINE = "model.image_newline"
"""LLaVA's name for what closes each row of tokens of an image in tiles."""

_OTHER_PREFIXES = (
    "base_model.model.model.mm_projector.",
    "module.model.mm_projector.",
    "mm_projector.",
    "model.abstractor.",
)
"""Further prefixes that files in the field have (LoRA runs, wrapped models)."""


class Projector(nn.Module):
    """Patches of a vision tower to tokens of a language model's width.

    `network` does the work; `grid` is the side of the patch grid, `token_grid` that of the tokens.
    `image_newline` (D,), if there is one, closes each row of tokens of an image in tiles.
    """

    def __init__(
        self,
        kind: ProjectorKind,
        network: nn.Module,
        *,
        vision_width: int,
        llm_width: int,
        grid: int,
        token_grid: int,
        hidden_width: int | None = None,
    ) -> None:
        super().__init__()
        self.kind: ProjectorKind = kind
        self.network: Any = network
        self.vision_width = vision_width
        self.llm_width = llm_width
        self.grid = grid
        self.token_grid = token_grid
        self.num_tokens = token_grid * token_grid
        self.hidden_width = hidden_width
        self.image_newline: nn.Parameter | None = None

    def add_newline(self) -> None:
        """Give the projector a newline with random values, as LLaVA-NeXT begins with, if it has
        none."""
        if self.image_newline is None:
            weight = next(self.parameters())
            values = torch.randn(self.llm_width, device=weight.device, dtype=weight.dtype)
            self.image_newline = nn.Parameter(values / self.llm_width**0.5)

    def forward(self, patches_BSV: Tensor) -> Tensor:
        """The tokens (B, P, D) of patches (B, S, V), row by row of either grid."""
        return self.network(patches_BSV)

    def token_coverage(self, coverage_BRS: Tensor) -> Tensor:
        """The fraction (0-1) of each token that regions cover, (B, R, P), from that of each patch.

        Tokens of Linear and MLP are patches. A token of the C-Abstractor reads the patches that
        its adaptive pooling averages: at 24 to 16 two along either axis, shared with neighbours.
        A token of the perceiver begins with those and looks at all others too.
        Coverage of another partition of the frame, into P cells, is taken as it is.
        """
        if coverage_BRS.shape[-1] == self.num_tokens:
            return coverage_BRS
        grid_BRHW = coverage_BRS.double().unflatten(-1, (self.grid, self.grid))
        # Float64 inside keeps exact halves what they are.
        pooled_BRHW = functional.adaptive_avg_pool2d(grid_BRHW, self.token_grid)
        return pooled_BRHW.flatten(2).to(coverage_BRS.dtype)

    def settings(self) -> dict[str, Any]:
        """The arguments with which `build_projector` makes a projector of the same shape."""
        return {
            "kind": self.kind,
            "vision_width": self.vision_width,
            "llm_width": self.llm_width,
            "grid": self.grid,
            "num_tokens": self.num_tokens,
            "hidden_width": self.hidden_width,
            **({"image_newline": True} if self.image_newline is not None else {}),
        }


def build_projector(
    kind: ProjectorKind,
    *,
    vision_width: int,
    llm_width: int,
    grid: int,
    num_tokens: int = 256,
    hidden_width: int | None = None,
    image_newline: bool = False,
) -> Projector:
    """A projector with random weights (torch's generator), in float32.

    "mlp" is LLaVA-1.5's `mlp2x_gelu` (exact GELU, as wide inside as the LLM). `num_tokens` (a
    square number) and `hidden_width` are those of the C-Abstractor (channels, 1024 unless given)
    and of the perceiver (inside its MLPs, four times the tower's width unless given).
    `image_newline` is for images in tiles.
    Raises `UserError` for another kind, or a number of tokens that is no square or more than the
    patches.
    """
    if kind not in get_args(ProjectorKind):
        raise UserError(
            f"there is no projector {kind!r}; choose "
            + ", ".join(repr(name) for name in get_args(ProjectorKind))
        )
    token_grid = grid
    if kind == "linear":
        network, hidden_width = nn.Linear(vision_width, llm_width), None
    elif kind == "mlp":
        network, hidden_width = (
            nn.Sequential(
                nn.Linear(vision_width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width)
            ),
            None,
        )
    elif kind == "perceiver":
        token_grid = _side(num_tokens, grid, "perceiver")
        hidden_width = hidden_width or 4 * vision_width
        network = Perceiver(
            vision_width, llm_width, grid=grid, token_grid=token_grid, hidden_width=hidden_width
        )
    else:
        token_grid = _side(num_tokens, grid, "C-Abstractor")
        hidden_width = hidden_width or 1024
        network = CAbstractor(
            vision_width, llm_width, grid=grid, token_grid=token_grid, hidden_width=hidden_width
        )
    projector = Projector(
        kind,
        network,
        vision_width=vision_width,
        llm_width=llm_width,
        grid=grid,
        token_grid=token_grid,
        hidden_width=hidden_width,
    )
    if image_newline:
        projector.add_newline()
    return projector


def llava_state(projector: Projector) -> dict[str, Tensor]:
    """The weights under public names: `model.mm_projector.*`, or `abstractor.*`. Not copied."""
    prefix = _PREFIX[projector.kind]
    state = {prefix + name: tensor for name, tensor in projector.network.state_dict().items()}
    if projector.image_newline is not None:
        state[NEWLINE] = projector.image_newline.detach()
    return state


def load_llava_state(
    projector: Projector, state: Mapping[str, Tensor], *, source: str = "the projector's state"
) -> None:
    """Copy weights under public names into `projector`; nothing may be missing or left over.

    A newline among them is taken.

    The position embedding of a C-Abstractor may hold one more position, that of the class token,
    in front; it is dropped. Raises `UserError` naming `source` and the first keys that differ.
    """
    own = strip_prefix(state)
    newline = own.pop(NEWLINE, None)
    position = own.get("pos_emb")
    if projector.kind == "c-abstractor" and position is not None:
        patches = projector.grid**2
        if position.ndim == 3 and position.shape[1] == patches + 1:
            own["pos_emb"] = position = position[:, 1:]
        if position.ndim == 3 and position.shape[1] != patches:
            raise UserError(
                f"{source} is a C-Abstractor for {position.shape[1]} patches, but the vision tower "
                f"gives {projector.grid} x {projector.grid} = {patches}; take the tower that it "
                "was trained with, or train a new projector"
            )
    if newline is not None:
        projector.add_newline()
    if projector.image_newline is None:
        load_strictly(projector.network, own, source=source)
        return
    whole = {f"network.{name}": tensor for name, tensor in own.items()}
    if newline is not None:
        whole["image_newline"] = newline
    load_strictly(projector, whole, source=source)


def strip_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The projector's weights under the names they have in `Projector.network`."""
    prefixes = (*_OTHER_PREFIXES, *_PREFIX.values())
    own: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        own[name.removeprefix(prefix)] = tensor
    return own


def kind_of(state: Mapping[str, Tensor], source: str) -> ProjectorKind:
    """The kind of projector whose weights (public names) these are.

    Raises `UserError` naming `source` and its first keys where they are of none.
    """
    names = set(strip_prefix(state))
    if "pos_emb" in names:
        return "c-abstractor"
    if "layers.0.attention.in_proj_weight" in names:
        return "perceiver"
    if "0.weight" in names:
        return "mlp"
    if "weight" in names:
        return "linear"
    first = ", ".join(sorted(state)[:3]) or "none"
    raise UserError(
        f"{source} holds no projector: expected keys such as model.mm_projector.0.weight or "
        f"abstractor.pos_emb, found {first}"
    )


def _side(num_tokens: int, grid: int, name: str) -> int:
    side = round(num_tokens**0.5)
    if side * side != num_tokens or not 1 <= side <= grid:
        raise UserError(
            f"the {name} cannot give {num_tokens} tokens from {grid} x {grid} patches; ask "
            "for a square number that is no larger than the number of patches"
        )
    return side
