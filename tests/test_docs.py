"""The pages of `docs/` build without a warning and are all in the site's contents."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.cli.command_lines import commands_in, parse

ROOT = Path(__file__).parents[1]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "annotate" / "index.html").is_file()


def test_every_page_is_in_the_contents() -> None:
    contents = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = {page for entry in contents for page in entry.values()}
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_commands_that_fill_the_papers_tables_are_commands() -> None:
    found = list(commands_in((ROOT / "docs/evaluate.md").read_text(encoding="utf-8")))
    called = [parse(arguments) for arguments in found]
    assert len(called) >= 18
    assert set(called) >= {"analyze", "captions", "referring", "vqa", "detections", "harness"}


def test_every_environment_variable_that_is_read_is_in_the_table() -> None:
    table = (ROOT / "docs/index.md").read_text(encoding="utf-8").partition("## Environment")[2]
    named = set(re.findall(r"`([A-Za-z_]+)`", table))
    patterns = (
        r'os\.environ(?:\.get|\.setdefault|\.pop)?[(\[]"(\w+)"',
        r'"(\w+)" (?:not )?in os\.environ',
    )
    read = {
        name
        for path in (ROOT / "pad_pipeline").rglob("*.py")
        for pattern in patterns
        for name in re.findall(pattern, path.read_text(encoding="utf-8"))
    }
    assert len(read) > 10
    assert {name for name in read if not name.startswith("AWS_")} <= named
