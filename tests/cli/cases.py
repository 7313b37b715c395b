"""Calls of the command line that must fail, and what they must say; "OUT" is a fresh path."""

from __future__ import annotations

from pathlib import Path

# What is wrong: the arguments, and what the sentence must say
ERRORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown preset": (
        "annotate images OUT --preset best",
        ("unknown preset 'best'", "paper, fast, sam3, demo"),
    ),
    "unknown preset, written with =": (
        "annotate images OUT --preset=best",
        ("unknown preset 'best'",),
    ),
    "threshold out of range": (
        "annotate images OUT --preset demo --detect.box-threshold 2",
        ("--detect.box-threshold must lie between 0 and 1, not 2.0",),
    ),
    "shard and chunk sizes that do not fit": (
        "annotate images OUT --preset demo --rows-per-shard 100 --chunk-size 48",
        ("--rows-per-shard 100 is not a multiple of --chunk-size 48; 144 is",),
    ),
    "missing source": ("annotate nowhere OUT --preset demo", ("no such source", "nowhere")),
    "empty folder": ("annotate empty OUT --preset demo", ("no images in", "empty", ".jpg")),
    "folder without images": ("annotate texts OUT --preset demo", ("no images in", "texts")),
    "source of no known kind": ("annotate page.html OUT --preset demo", ("cannot read", "folder")),
    "damaged JSON": ("annotate broken.json OUT --preset demo", ("broken.json",)),
    "damaged Parquet": ("annotate broken.parquet OUT --preset demo", ("broken.parquet",)),
    "damaged zip": ("annotate broken.zip OUT --preset demo", ("broken.zip",)),
    "the same image twice": (
        "annotate twice.json OUT --preset demo --images images",
        ("names 1 image more than once", "'000.png'"),
    ),
    "missing captions": (
        "annotate images OUT --preset demo --captions nowhere.json",
        ("nowhere.json",),
    ),
    "data set as a source": ("annotate sound OUT --preset demo", ("is a PAD data set",)),
    "file in place of the output": ("annotate images file --preset demo", ("it is a file",)),
    "file in the way of the output": (
        "annotate images file/out --preset demo",
        ("a part of this path is a file",),
    ),
    "output with other Parquet files": (
        "annotate images others --preset demo",
        ("already holds Parquet files", "choose another output"),
    ),
    "missing tagger": (
        "annotate images OUT",
        ("there is no model 'ram'", "`pad-pipeline models list`", "models fetch"),
    ),
    "missing checkpoint": (
        "annotate images OUT --preset demo --segment.model ./sam_vit_h.pth",
        ("there is no model './sam_vit_h.pth'",),
    ),
    "8 bits without a GPU": (
        "annotate images OUT --preset demo --device cpu --segment.quantize fp8",
        ("--segment.quantize fp8 needs a GPU", "`pad-pipeline models compare-precision`"),
    ),
    "comparison of no images": (
        "models compare-precision images --preset demo --num-images 0",
        ("--num-images must be at least 1",),
    ),
    "GPU that is not there": (
        "annotate images OUT --preset demo --device cuda",
        ("torch sees no CUDA GPU", "--device cpu"),
    ),
    "nobody at the Ray address": (
        "annotate images OUT --preset demo --ray-address 127.0.0.1:1",
        ("no Ray cluster answers at 127.0.0.1:1", "ray start --head", "leave out --ray-address"),
    ),
    "address of the dashboard": (
        "annotate images OUT --preset demo --ray-address http://127.0.0.1:8265",
        ("expected the host:port", "ray job submit"),
    ),
    "address that is none": (
        "annotate images OUT --preset demo --ray-address head",
        ("expected the host:port of a Ray cluster's head", "'head'"),
    ),
    "service with a missing tagger": ("serve --port 0", ("there is no model 'ram'",)),
    "service on a GPU that is not there": (
        "serve --preset demo --port 0 --device cuda",
        ("torch sees no CUDA GPU", "--device cpu"),
    ),
    "service with nobody at the Ray address": (
        "serve --preset demo --port 0 --ray-address 127.0.0.1:1",
        ("no Ray cluster answers at 127.0.0.1:1",),
    ),
    "service at an address of another machine": (
        "serve --preset demo --host 198.51.100.7 --port 0",
        ("198.51.100.7 is no address of this machine", "leave --host out"),
    ),
    "service at no address": (
        "serve --preset demo --host nowhere.invalid",
        ("nowhere.invalid is no address of this machine", "leave --host out"),
    ),
    "service at a port that no machine has": (
        "serve --preset demo --port 99999",
        ("--port must lie between 0 and 65535, not 99999",),
    ),
    "service without room": (
        "serve --preset demo --max-queued 0",
        ("--max-queued must be at least 1, not 0",),
    ),
    "service with a missing key": (
        "serve --preset demo --api-key-file nowhere",
        ("cannot read an API key from nowhere (No such file or directory)",),
    ),
    "service with an empty key": (
        "serve --preset demo --api-key-file empty_key",
        ("expected an API key", "in empty_key, found nothing"),
    ),
    "demo of no images": ("demo --output OUT --num-images 0", ("--num-images must be at least 1",)),
    "demo with a negative seed": ("demo --output OUT --seed -1", ("--seed must not be negative",)),
    "demo into a file": ("demo --output file", ("cannot use file (Not a directory)", "--output")),
    "export of nothing": ("export nowhere OUT --format coco", ("nothing is there",)),
    "export of images": (
        "export images OUT --format coco",
        ("is not a data set of PAD records", "_manifest.json"),
    ),
    "export onto a file": ("export sound file --format pad-json", ("file already exists",)),
    "export below a file": (
        "export sound file/pad.json --format pad-json",
        ("a part of this path is a file",),
    ),
    "export of a damaged data set": ("export damaged OUT --format coco", ("pad-00001.parquet",)),
    "export of an incomplete data set": (
        "export incomplete OUT --format llava",
        ("is damaged: its manifest names pad-00001.parquet",),
    ),
    "export with an unreadable manifest": (
        "export unreadable OUT --format coco",
        ("_manifest.json is not valid JSON",),
    ),
    "export with a score out of range": (
        "export sound OUT --format coco --min-score 2",
        ("--min-score must lie between 0 and 1, not 2.0",),
    ),
    "stats of nothing": ("stats nowhere", ("nothing is there",)),
    "stats of a damaged data set": ("stats damaged", ("pad-00001.parquet",)),
    "stats into a missing folder": ("stats sound --json nowhere/stats.json", ("nowhere",)),
    "stats onto a full disk": ("stats sound --json /dev/full", ("/dev/full", "space")),
    "plot into a missing folder": ("stats sound --png file/stats.png", ("file/stats.png",)),
    "validation of nothing": ("validate nowhere", ("nowhere",)),
    "validation of images": ("validate images", ("is not a data set of PAD records",)),
    "validation with an unreadable manifest": ("validate unreadable", ("_manifest.json",)),
    "pictures of nothing": ("render nowhere OUT", ("nothing is there",)),
    "pictures without the images": ("render sound OUT --images nowhere", ("nowhere",)),
    "pictures into a file": ("render sound file --images photos", ("file already exists",)),
    "no picture at all": ("render sound OUT --images photos --limit 0", ("limit", "0")),
    "conversion of nothing": (
        "models convert sam nowhere.pth --output OUT",
        ("no checkpoint at nowhere.pth",),
    ),
    "conversion of junk": (
        "models convert sam junk.pth --output OUT",
        ("junk.pth cannot be read as a checkpoint: it is no PyTorch", "download it again"),
    ),
    "conversion of another model's checkpoint": (
        "models convert sam ram.safetensors --output OUT",
        ("does not fit SAM", "image_encoder.patch_embed.proj.weight is missing", "fc.bias"),
    ),
    "conversion without tags": ("models convert ram ram.safetensors --output OUT", ("--tags",)),
    "conversion with too few tags": (
        "models convert ram ram.safetensors --tags three_tags.txt --output OUT",
        ("ram.safetensors", "needs a list of 50 tags; the one given has 3"),
    ),
    "conversion with missing tags": (
        "models convert ram ram.safetensors --tags nowhere.txt --output OUT",
        ("nowhere.txt",),
    ),
    "conversion with an option of another model": (
        "models convert sam ram.safetensors --tags three_tags.txt --output OUT",
        ("sam takes no --tags",),
    ),
    "conversion onto something": (
        "models convert sam ram.safetensors --output images",
        ("images already exists; remove it",),
    ),
    "conversion below a file": ("models convert sam ram.safetensors --output file/sam", ("file",)),
    "verification of nothing": ("models verify nowhere", ("there is no folder nowhere",)),
    "verification of images": ("models verify images", ("images", "config.json")),
}


USAGE = {
    "no command": "",
    "unknown command": "annotat images out",
    "missing argument": "annotate images",
    "unknown option": "annotate images OUT --preset demo --box-threshold 0.3",
    "text for the service's port": "serve --preset demo --port web",
    "text for a number": "annotate images OUT --preset demo --chunk-size many",
    "value outside of the choice": "annotate images OUT --preset demo --layout best",
    "preset of annotation": "train pretrain sound --output OUT --preset fast",
    "unknown format": "export sound OUT --format yolo",
    "unknown model": "models convert clip junk.pth --output OUT",
}


def arguments_of(line: str, output: Path) -> list[str]:
    return [str(output) if word == "OUT" else word for word in line.split()]
