"""Loading SAM, SAM-HQ, SAM 2 and SAM 3: original files and directories."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3VideoConfig,
    Sam3VideoModel,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
)

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.fp8 import ScaledLinear
from pad_pipeline.models.pretrained import quiet
from pad_pipeline.models.registry import load_segmenter
from pad_pipeline.models.sam.load import load_sam, save_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter
from tests.models.sam.helpers import bits, differing


def test_a_key_too_few_too_many_or_of_another_shape_is_named(
    sam_golden: SimpleNamespace, tmp_path: Path
) -> None:
    depth, heads = sam_golden.config["depth"], sam_golden.config["decoder_num_heads"]
    inner = sam_golden.config["prompt_embed_dim"] // sam_golden.config["attention_downsample_rate"]
    bias = f"layers.{depth - 1}.attn.qkv.bias"
    key = f"image_encoder.blocks.{depth - 1}.attn.qkv.bias"
    (width,) = sam_golden.checkpoint[key].shape
    path = tmp_path / "sam.safetensors"
    for change, message in (
        ({key: None}, f"1 missing .*{bias}"),
        ({"extra.weight": torch.zeros(1)}, "1 unexpected .*extra.weight"),
        ({key: torch.zeros(3)}, rf"{bias} is \(3,\) instead of \({width},\)"),
        ({"image_encoder.pos_embed": None}, "pos_embed is missing"),
        ({"image_encoder.patch_embed.proj.weight": None}, "does not fit SAM"),
    ):
        state = {k: v for k, v in {**sam_golden.checkpoint, **change}.items() if v is not None}
        save_file(state, path)
        with pytest.raises(UserError, match=message):
            load_sam(path, Runtime(), decoder_heads=heads)
    (tmp_path / "config.json").write_text(json.dumps({**sam_golden.config, "depth": depth + 3}))
    save_file(sam_golden.checkpoint, path)
    with pytest.raises(UserError, match=f"depth is {depth} by its tensors, {depth + 3} by"):
        load_sam(path, Runtime())
    with pytest.raises(UserError, match=f"{inner} wide, which {inner + 1} heads do not divide"):
        load_sam(sam_golden.folder / "checkpoint.safetensors", Runtime(), decoder_heads=inner + 1)


def test_a_saved_directory_gives_the_same_masks(
    sam_golden: SimpleNamespace, sam_segmenter: SamSegmenter, tmp_path: Path
) -> None:
    save_sam(sam_segmenter, tmp_path)
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    again = load_sam(tmp_path, Runtime())
    assert again.pixel_mean == pytest.approx(sam_segmenter.pixel_mean)
    found = again.segment(sam_golden.images, sam_golden.boxes)
    assert max(differing(found, sam_segmenter.segment(sam_golden.images, sam_golden.boxes))) < 1e-4


def test_directories_load_strictly(sam_segmenter: SamSegmenter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config.json"):
        load_sam(tmp_path, Runtime())
    save_sam(sam_segmenter, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    key = "mask_decoder.iou_token.weight"
    for changed, message in (
        ({k: v for k, v in weights.items() if k != key}, f"1 missing .*{key}"),
        ({**weights, "extra": torch.zeros(1)}, "1 unexpected .*extra"),
        ({**weights, key: torch.zeros(1, 3)}, f"of another shape .*{key}"),
    ):
        save_file(changed, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=message):
            load_sam(tmp_path, Runtime())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is of type 'bert'"):
        load_sam(tmp_path, Runtime())


VISION = {"hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "patch_size": 8,
          "num_attention_heads": 2, "image_size": 64, "window_size": 3, "num_pos_feats": 16,
          "global_attn_indexes": [1], "initializer_range": 0.02}  # fmt: skip


PROMPT = {"hidden_size": 32, "image_size": 64, "patch_size": 8, "mask_input_channels": 8}


DECODER = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


HIERA = {"hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64],
         "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
         "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 2, 2, 2],
         "global_attention_blocks": [3]}  # fmt: skip


SAM2 = {
    "vision_config": {"backbone_config": {"model_type": "sam2_hiera_det_model", **HIERA},
                      "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32,
                      "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]},
    "prompt_encoder_config": {**PROMPT, "patch_size": 16},
    "mask_decoder_config": DECODER,
}  # fmt: skip


SAM3_VIT = {"model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "window_size": 2,
            "global_attn_indexes": [1], "pretrain_image_size": 28}  # fmt: skip


def sam3(levels: int) -> dict[str, Any]:
    """The sizes of a SAM 3 that tracks, whose encoder gives three or four levels."""
    return {
        "vision_config": {"model_type": "sam3_vision_model", "backbone_config": SAM3_VIT,
                          "fpn_hidden_size": 32, "scale_factors": [4.0, 2.0, 1.0, 0.5][:levels],
                          "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]},
        "prompt_encoder_config": {**PROMPT, "patch_size": 14, "image_size": 56},
        "mask_decoder_config": DECODER,
    }  # fmt: skip


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vision_config": VISION, "prompt_encoder_config": PROMPT, "mask_decoder_config": DECODER
    }  # fmt: skip
    if kind == "sam":
        model: Any = SamModel(SamConfig(**sizes))
    elif kind == "sam_hq":
        sizes["mask_decoder_config"] = {**DECODER, "vit_dim": 32}
        model = SamHQModel(SamHQConfig(**sizes))
    elif kind == "sam2":
        model = Sam2Model(Sam2Config(**SAM2))
    elif kind == "sam3_tracker":
        model = Sam3TrackerModel(Sam3TrackerConfig(**sam3(3)))
    else:
        model = Sam2VideoModel(Sam2VideoConfig(**SAM2, image_size=64, num_maskmem=2))
    for parameter in model.parameters():  # tables that start at zero would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("kind", ["sam", "sam_hq", "sam2", "sam3_tracker"])
def test_boxes_of_several_images_decode_as_each_image_by_itself(kind: str, tmp_path: Path) -> None:
    model = tiny(kind)
    model.save_pretrained(tmp_path)
    segmenter = load_sam(tmp_path, Runtime(), max_boxes=3)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 60), (70, 33))]
    boxes = [np.array([[4, 4, 30, 30], [-2, 5, 50, 39.5], [0, 0, 60, 40]], np.float32),
             np.array([[3, 8, 20, 60], [10, 10, 30, 70]], np.float32)]  # fmt: skip
    frames, features = segmenter.embed(images)
    of_image = np.repeat([0, 1], [3, 2])
    prompts = [frame.to_frame(xyxy, np.float32) for frame, xyxy in zip(frames, boxes, strict=True)]
    low_res, scores = segmenter.decode(features, of_image, np.concatenate(prompts))
    for row, (image, frame) in enumerate(zip(images, frames, strict=True)):
        with torch.no_grad():
            wanted = model(
                pixel_values=segmenter.pixels(image, frame)[None],
                input_boxes=torch.from_numpy(prompts[row])[None],
                multimask_output=False,
            )
        ours = low_res[of_image == row]
        assert ours.std() > 1e-3
        assert (ours - wanted.pred_masks[0]).abs().max() < 1e-4
        assert (scores[of_image == row] - wanted.iou_scores[0]).abs().max() < 1e-4
    found = segmenter.segment(images, boxes)
    assert [[(m.height, m.width) for m in regions] for regions in found] == [
        [(40, 60)] * 3, [(70, 33)] * 2
    ]  # fmt: skip


def test_sam2_squashes_and_upsamples_in_one_step(tmp_path: Path) -> None:
    tiny("sam2").save_pretrained(tmp_path)
    segmenter = load_sam(tmp_path, Runtime())
    image = np.random.default_rng(2).integers(0, 256, (30, 90, 3), np.uint8)
    boxes = np.array([[9, 3, 45, 15]], np.float32)
    (frame,), features = segmenter.embed([image])
    np.testing.assert_allclose(frame.to_frame(boxes), boxes * np.array([64 / 90, 64 / 30] * 2))
    low_res, _ = segmenter.decode(
        features, np.zeros(1, np.int64), frame.to_frame(boxes, np.float32)
    )
    wanted = torch.nn.functional.interpolate(low_res, (30, 90), mode="bilinear")[0, 0] > 0
    (mask,) = segmenter.segment([image], [boxes])[0]
    np.testing.assert_array_equal(bits(mask), wanted.numpy())


def test_only_the_encoders_of_sam_and_sam_hq_are_quantized(
    sam_golden: SimpleNamespace, tmp_path: Path
) -> None:
    tiny("sam2").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is for SAM and SAM-HQ"):
        load_sam(tmp_path, Runtime(), quantize="fp8", emulate=True)
    checkpoint = sam_golden.folder / "checkpoint.safetensors"
    with pytest.raises(UserError, match="needs a GPU"):
        load_sam(checkpoint, Runtime(), quantize="fp8")
    segmenter = load_sam(checkpoint, Runtime(), quantize="fp8", emulate=True)
    layers = segmenter.model.vision_encoder.layers
    assert [isinstance(layer.mlp.lin1, ScaledLinear) for layer in layers] == [
        0 < place < len(layers) - 1 for place in range(len(layers))
    ]


def test_released_sam2_files_load_without_their_video_memory(tmp_path: Path) -> None:
    video = tiny("sam2_video")
    video.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "sam2_video"
    segmenter = load_sam(tmp_path, Runtime())
    theirs, ours = video.state_dict(), segmenter.model.state_dict()
    assert isinstance(segmenter.model, Sam2Model)
    assert all(torch.equal(theirs[key], ours[key]) for key in ours if key in theirs)
    assert len(set(ours) - set(theirs)) == 0


def sam3_video() -> Sam3VideoModel:
    """A released SAM 3 at small size: its detector, its tracker and one encoder for both."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 1, "intermediate_size": 64}
    text = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2,
            "num_hidden_layers": 1, "projection_dim": 16, "vocab_size": 90}  # fmt: skip
    detector = {
        "vision_config": sam3(4)["vision_config"],
        "text_config": {"model_type": "clip_text_model", **text},
        "geometry_encoder_config": {**small, "roi_size": 2},
        "detr_encoder_config": small,
        "detr_decoder_config": {**small, "num_queries": 6},
        "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
    }
    tracker = {**sam3(4), "image_size": 56, "num_maskmem": 2}
    with quiet():
        model = Sam3VideoModel(Sam3VideoConfig(detector_config=detector, tracker_config=tracker))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def test_released_sam3_files_load_as_what_tracks_in_them(tmp_path: Path) -> None:
    video = sam3_video()
    video.save_pretrained(tmp_path)
    segmenter = load_segmenter(tmp_path, Runtime())
    assert isinstance(segmenter, SamSegmenter)
    assert (segmenter.size, segmenter.pixel_mean) == (56, (127.5, 127.5, 127.5))
    image = np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)
    (frame,), features = segmenter.embed([image])
    with torch.no_grad():
        pixels = segmenter.pixels(image, frame)[None]
        vision = video.detector_model.get_vision_features(pixels)
        theirs, _ = video.get_vision_features_for_tracker(vision)
    coarse = theirs[2] + video.tracker_model.no_memory_embedding
    for ours, wanted in zip(features, (coarse, theirs[0], theirs[1]), strict=True):
        flat = ours.flatten(2).permute(2, 0, 1)
        assert flat.std() > 1e-3
        assert (flat - wanted).abs().max() < 1e-4
    (mask,) = segmenter.segment([image], [np.array([[5, 5, 40, 30]], np.float32)])[0]
    assert (mask.height, mask.width) == (40, 60)
