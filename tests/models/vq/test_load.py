from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.vq.load import load_image_coder, load_vq_network, save_vq_network
from tests.models.vq.small import small_vqgan

IMAGES = [np.random.default_rng(n).integers(0, 256, (32, 48, 3), np.uint8) for n in range(2)]


def grids(coder) -> list[NDArray]:
    return coder.encode(IMAGES)


def test_a_saved_vqgan_gives_the_same_indices(tmp_path: Path) -> None:
    model = small_vqgan()
    save_vq_network(model, tmp_path / "model")
    coder = load_image_coder(tmp_path / "model", Runtime())
    assert (coder.factor, coder.num_codes) == (8, 64)
    found = grids(coder)
    pixels = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2) / 127.5 - 1
    latents = model.encode(pixels)
    by_hand = latents[:, :, None] - model.quantize.embedding.weight.T[None, :, :, None, None]
    expected = by_hand.square().sum(1).argmin(1)
    assert np.array_equal(np.stack(found), expected.numpy())
    assert found[0].shape == (4, 6)
    assert len(np.unique(found)) > 3
    [picture, _] = coder.decode(found)
    assert picture.shape == (32, 48, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(grids(coder)[1], coder.encode(IMAGES[1:])[0])


def test_a_checkpoint_of_taming_transformers_loads_without_its_losses(tmp_path: Path) -> None:
    model = small_vqgan(norm_groups=32, width=32)
    state = {**model.state_dict(), "loss.discriminator.main.0.weight": torch.zeros(2)}
    # what Lightning writes around the weights
    torch.save({"state_dict": state, "epoch": 3, "global_step": 7}, tmp_path / "last.ckpt")
    coder = load_image_coder(tmp_path / "last.ckpt", Runtime())
    save_vq_network(model, tmp_path / "model")
    same = load_image_coder(tmp_path / "model", Runtime())
    assert np.array_equal(grids(coder), grids(same))
    assert load_vq_network(tmp_path / "last.ckpt").config == model.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.mid.attn_1.q.weight"), "1 missing (decoder.mid.attn_1.q.weight)"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 unexpected (extra)"),
        (
            lambda s: s.update({"quant_conv.bias": torch.zeros(9)}),
            "1 of another shape (quant_conv.bias is (9,) instead of (2,))",
        ),
        (lambda s: s.pop("encoder.conv_in.weight"), "no VQGAN of taming-transformers: it lacks"),
        (
            lambda s: s.update({"quantize.embed.weight": s.pop("quantize.embedding.weight")}),
            "GumbelVQ",
        ),
    ],
)
def test_a_checkpoint_that_differs_is_refused(tmp_path: Path, change, message: str) -> None:
    state = dict(small_vqgan(norm_groups=32, width=32).state_dict())
    change(state)
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(UserError) as error:
        load_image_coder(tmp_path / "last.ckpt", Runtime())
    assert message in str(error.value)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    state = small_vqgan(norm_groups=32, width=32).state_dict()
    torch.save({"state_dict": state, "callbacks": Path("x")}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        load_image_coder(tmp_path / "last.ckpt", Runtime())


def test_directories_of_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"of type 'sam', no VQ model; expected vqgan, patch_vq"):
        load_image_coder(tmp_path, Runtime())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vqgan"}), encoding="utf-8")
    with pytest.raises(UserError, match="does not give the sizes of a vqgan model"):
        load_image_coder(tmp_path, Runtime())


def test_pixels_and_indices_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_vq_network(small_vqgan(), tmp_path / "model")
    coder = load_image_coder(tmp_path / "model", Runtime())
    with pytest.raises(UserError, match=r"48x20 pixels cannot be divided into codes .* each 8x8"):
        coder.encode([IMAGES[0][:20]])
    with pytest.raises(UserError, match="48x6 pixels are smaller than a code"):
        coder.encode([IMAGES[0][:6]])
    with pytest.raises(UserError, match=r"64 is no index of .* whose codebook has 64 codes"):
        coder.decode([np.array([[1, 64]])])


def test_models_of_transformers(tmp_path: Path) -> None:
    from transformers import ChameleonVQVAEConfig, Emu3VQVAEConfig, FlavaImageCodebookConfig
    from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE
    from transformers.models.emu3.modeling_emu3 import Emu3VQVAE
    from transformers.models.flava.modeling_flava import FlavaImageCodebook
    from transformers.models.janus.configuration_janus import JanusVQVAEConfig
    from transformers.models.janus.modeling_janus import JanusVQVAE

    torch.manual_seed(0)
    sizes = {
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "embed_dim": 4,
        "latent_channels": 4,
    }
    janus = JanusVQVAE(JanusVQVAEConfig(**sizes, num_embeddings=50, num_patches=24))
    models = {
        "janus": (janus, 2, 50),
        "chameleon": (
            ChameleonVQVAE(ChameleonVQVAEConfig(**sizes, num_embeddings=50, resolution=32)),
            2,
            50,
        ),
        "emu3": (
            Emu3VQVAE(
                Emu3VQVAEConfig(**sizes, codebook_size=40, attn_resolutions=[], hidden_size=32)
            ),
            2,
            40,
        ),
        "flava": (
            FlavaImageCodebook(
                FlavaImageCodebookConfig(hidden_size=4, vocab_size=30, num_blocks_per_group=1)
            ),
            8,
            30,
        ),
    }
    for name, (model, factor, num_codes) in models.items():
        model.save_pretrained(tmp_path / name)
        coder = load_image_coder(tmp_path / name, Runtime())
        assert (coder.factor, coder.num_codes) == (factor, num_codes)
        [first, _] = grids(coder)
        assert first.shape == (32 // factor, 48 // factor)
        assert 0 <= first.min() <= first.max() < num_codes
        if name in ("chameleon", "flava"):
            with pytest.raises(UserError, match="has no decoder"):
                coder.decode([first])
        else:
            assert coder.decode([first])[0].shape == (32, 48, 3)
            coder.decode([np.zeros((2, 2), np.int64)])  # as small a grid as is tried for a decoder
    with pytest.raises(UserError, match="is a Janus model; expected `embedded`"):
        load_vq_network(tmp_path / "janus")
    # Janus' own `decode` takes the square grid of its config alone
    square = load_image_coder(tmp_path / "janus", Runtime()).encode([IMAGES[0][:, :32]])[0]
    janus.quantize.quant_state_dims = [16, 16]
    own = janus.decode(torch.from_numpy(square).view(1, -1)).detach().numpy()
    picture = load_image_coder(tmp_path / "janus", Runtime()).decode([square])[0]
    expected = np.clip((own[0].transpose(1, 2, 0) + 1) / 2, 0, 1) * 255
    assert np.abs(picture - expected).max() <= 0.51


def test_a_vqmodel_of_diffusers(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="pip install 'pad-pipeline[train]'")
    torch.manual_seed(0)
    model = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32),
        num_vq_embeddings=60,
    ).eval()
    model.save_pretrained(tmp_path / "model")
    coder = load_image_coder(tmp_path / "model", Runtime())
    assert (coder.factor, coder.num_codes) == (2, 60)
    found = grids(coder)
    assert found[0].shape == (16, 24)
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2) / 127.5 - 1
        own = model.decode(model.encode(pixels).latents).sample
    expected = np.clip((own[0].permute(1, 2, 0).numpy() + 1) / 2, 0, 1) * 255
    assert np.abs(coder.decode(found)[0] - expected).max() <= 0.51
