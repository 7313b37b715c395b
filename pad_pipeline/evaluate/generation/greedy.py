"""Greedy generation from embedded prompts of different lengths.

Shapes: B prompts, T positions, D LLM width, P tokens of an image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from pad_pipeline.train.constants import IMAGE_TOKEN_INDEX


def embed_prompts(
    words: torch.nn.Module, prompts: Sequence[Sequence[int]], images: Iterable[Tensor]
) -> list[Tensor]:
    """The language model's input (T, D) of each prompt's ids, by its word embedding.

    The tokens (P, D) of the next of the `images` stand where a prompt has its one image.
    """
    rows, coming = [], iter(images)
    device = next(words.parameters()).device
    for prompt in prompts:
        ids = torch.tensor(prompt, device=device)
        is_image = ids == IMAGE_TOKEN_INDEX
        row_TD = words(ids.masked_fill(is_image, 0))
        if bool(is_image.any()):
            [place] = is_image.nonzero().flatten().tolist()
            parts = [row_TD[:place], next(coming).to(row_TD.dtype), row_TD[place + 1 :]]
            row_TD = torch.cat(parts)
        rows.append(row_TD)
    return rows


@torch.no_grad()
def generate_texts(
    llm: Any, tokenizer: Any, rows_TD: Sequence[Tensor], ends: Collection[int], max_new_tokens: int
) -> list[str]:
    """The greedy continuation of each prompt (T, D), up to the first of the ids `ends`.

    Prompts are padded on the left and masked; keys and values are kept from token to token.
    """
    longest = max(len(row_TD) for row_TD in rows_TD)
    inputs_BTD = rows_TD[0].new_zeros(len(rows_TD), longest, rows_TD[0].shape[1])
    attention_BT = torch.zeros(len(rows_TD), longest, dtype=torch.long, device=inputs_BTD.device)
    for place, row_TD in enumerate(rows_TD):
        inputs_BTD[place, longest - len(row_TD) :] = row_TD
        attention_BT[place, longest - len(row_TD) :] = 1
    pad = tokenizer.pad_token_id
    generated = llm.generate(
        inputs_embeds=inputs_BTD,
        attention_mask=attention_BT,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=sorted(ends),
        pad_token_id=min(ends) if pad is None else pad,
    )
    return [_text(tokenizer, ids, ends) for ids in generated.tolist()]


def _text(tokenizer: Any, ids: list[int], ends: Collection[int]) -> str:
    length = next((n for n, token in enumerate(ids) if token in ends), len(ids))
    return tokenizer.decode(ids[:length], skip_special_tokens=True).strip()
