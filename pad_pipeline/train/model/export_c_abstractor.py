"""What a user of a C-Abstractor gets: weights, code and a note on loading, for no other program
has this projector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pad_pipeline.train.model import c_abstractor
from pad_pipeline.train.model.projector_files import PROJECTOR_FILES, SETTINGS_FILE, save_projector
from pad_pipeline.train.model.towers import tower_of
from pad_pipeline.train.model.vlm import VisionLanguageModel

NOTE = "LOADING.md"


def write_parts(
    model: VisionLanguageModel,
    tokenizer: Any,
    image_processor: Any,
    folder: Path,
    dtype: torch.dtype | None,
) -> str:
    """Write projector, code, note, and in vision/ and llm/ the models; what to tell the user."""
    save_projector(model.projector, folder)
    for name, part in (("vision", model.vision), ("llm", model.llm)):
        state = None
        if dtype not in (None, part.dtype):
            state = {key: tensor.detach().to(dtype) for key, tensor in part.state_dict().items()}
        part.save_pretrained(folder / name, state_dict=state)
    tokenizer.save_pretrained(folder / "llm")
    image_processor.save_pretrained(folder / "vision")
    return _write_note(model, folder, whole=True)


def write_projector(model: VisionLanguageModel, folder: Path) -> str:
    """Write projector, code and note; what to tell the user."""
    save_projector(model.projector, folder)
    return _write_note(model, folder, whole=False)


def _write_note(model: VisionLanguageModel, folder: Path, *, whole: bool) -> str:
    """The C-Abstractor's code and how to load it; what to tell the user."""
    code = Path(c_abstractor.__file__)
    (folder / code.name).write_text(code.read_text(encoding="utf-8"), encoding="utf-8")
    layer, first = model.select_layer, tower_of(model.vision.config).class_tokens
    projector = model.projector
    rest = _NOTE_WHOLE.format(layer=layer, first=first) if whole else ""
    (folder / NOTE).write_text(
        _NOTE.format(
            settings=SETTINGS_FILE,
            weights=PROJECTOR_FILES[0],
            grid=projector.grid,
            token_grid=projector.token_grid,
            num_tokens=projector.num_tokens,
            vision_width=projector.vision_width,
            llm_width=projector.llm_width,
            layer=layer,
        )
        + rest,
        encoding="utf-8",
    )
    return (
        "neither transformers nor LLaVA has a C-Abstractor, so its weights, its code "
        f"({code.name}) and a note on loading ({NOTE}) were written"
        + (", with tower, language model and tokenizer in vision/ and llm/" if whole else "")
    )


_NOTE = """\
# Loading this C-Abstractor

Neither transformers nor LLaVA has one. `c_abstractor.py` is its code and needs torch alone,
`{weights}` holds the weights, `{settings}` the sizes. It turns {grid} x {grid} patches of
width {vision_width} into {token_grid} x {token_grid} = {num_tokens} tokens of width {llm_width}.
Run this with this folder as the working folder:

```python
import json
from pathlib import Path

from safetensors.torch import load_file

from c_abstractor import CAbstractor

settings = json.loads(Path("{settings}").read_text())
projector = CAbstractor(
    settings["vision_width"],
    settings["llm_width"],
    grid=settings["grid"],
    token_grid=round(settings["num_tokens"] ** 0.5),
    hidden_width=settings["hidden_width"],
)
state = load_file("{weights}")
projector.load_state_dict({{k.removeprefix("abstractor."): v for k, v in state.items()}})
projector.eval()
```

The patches are the hidden layer {layer} of the vision tower without the class token; the
tokens stand among the language model's word embeddings where the prompt has the image.
"""

_NOTE_WHOLE = """
```python
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

processor = AutoImageProcessor.from_pretrained("vision")
vision = AutoModel.from_pretrained("vision", dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained("llm")
llm = AutoModelForCausalLM.from_pretrained("llm", dtype=torch.float32)


def image_tokens(image):
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        patches = vision(pixels, output_hidden_states=True).hidden_states[{layer}][:, {first}:]
        return projector(patches)


def describe(image, max_new_tokens=40):
    begin = torch.tensor([[tokenizer.bos_token_id]])
    words = llm.get_input_embeddings()(begin)
    inputs = torch.cat([words, image_tokens(image)], dim=1)
    ids = llm.generate(inputs_embeds=inputs, max_new_tokens=max_new_tokens)
    return tokenizer.decode(ids[0], skip_special_tokens=True)
```
"""
