"""Read a data set of `pad-pipeline annotate` into a PyTorch `Dataset`.

python examples/torch_dataset.py demo/annotations
"""

import sys

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from pad_pipeline import decode_mask, iter_records, open_dataset


class RegionDataset(Dataset):
    """Images with their boxes, masks and tags, as torchvision's detection models take them."""

    def __init__(self, url: str, min_score: float = 0.0) -> None:
        self.min_score = min_score
        # A record holds compressed masks only, so the list stays small; pixels are read on demand.
        self.records = [r for r in iter_records(open_dataset(url)) if r.status == "ok"]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict]:
        record = self.records[index]
        with Image.open(record.uri) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        regions = [r for r in record.labels if r.score >= self.min_score]
        height, width = record.height, record.width
        masks = np.zeros((len(regions), height, width), bool)
        for mask, region in zip(masks, regions, strict=True):
            mask[:] = decode_mask(region.rle_mask, height, width)
        target = {
            "boxes": torch.tensor([r.bbox for r in regions]).reshape(-1, 4),  # xyxy, pixels
            "masks": torch.from_numpy(masks),
            "tags": [r.tag for r in regions],
        }
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), target  # (3, H, W) uint8


def main(url: str) -> None:
    loader = DataLoader(RegionDataset(url), batch_size=4, collate_fn=lambda samples: samples)
    for batch in loader:
        for image, target in batch:
            print(tuple(image.shape), tuple(target["masks"].shape), target["tags"])


if __name__ == "__main__":
    main(sys.argv[1])
