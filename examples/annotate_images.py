"""Annotate images in this process, without Ray.

    python examples/annotate_images.py demo/images/scene_00000.png

`demo()` takes the small models that ship with the package and know drawn scenes alone; `paper()`
takes Grounding DINO and SAM from the Hugging Face hub and your converted RAM.
"""

import sys

from pad_pipeline import Annotator, decode_mask, demo


def main(paths: list[str]) -> None:
    annotator = Annotator(demo())
    for record in annotator.annotate(paths):
        print(f"{record.image_id}: {record.status}")
        for region in record.labels:
            mask = decode_mask(region.rle_mask, record.height, record.width)  # (H, W) bool
            box = ", ".join(f"{side:.0f}" for side in region.bbox)  # x0, y0, x1, y1 in pixels
            print(f"  {region.score:.2f} {region.tag} in [{box}], {mask.sum()} pixels")


if __name__ == "__main__":
    main(sys.argv[1:])
