"""What is to be reached, found in the rows: for each bar its goal, the least, and the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gpu_sections.bench import Row

NOT_MEASURED = "not measured"
DRY_RUN = "dry run"


@dataclass(frozen=True)
class Bar:
    """A figure that is wanted; `least` is None where there is nothing between goal and failure."""

    what: str
    goal: float
    least: float | None
    measure: Callable[[Sequence[Row]], float | None]
    unit: str = "images/s"
    downwards: bool = False


def judge(rows: Sequence[Row], *, dry_run: bool = False) -> list[Row]:
    """For each bar: the goal, the least, what was measured (None: nothing) and the verdict.

    The figures of a dry run are about other models on another machine: they are judged by nothing.
    """
    table = []
    for bar in BARS:
        found = bar.measure(rows)
        table.append(
            {
                "what": bar.what,
                "unit": bar.unit,
                "goal": bar.goal,
                "least": bar.least,
                "measured": found,
                "verdict": DRY_RUN if dry_run and found is not None else _verdict(bar, found),
            }
        )
    return table


def as_text(table: Sequence[Row], rows: Sequence[Row]) -> str:
    """The table for the terminal, and what was not measured or failed."""
    lines = [("bar", "goal", "least", "measured", "verdict")]
    for row in table:
        sign = {True: "≤ ", False: ""}[row["unit"] in ("launches", "GiB")]
        lines.append(
            (
                f"{row['what']} ({row['unit']})",
                f"{sign}{row['goal']:g}",
                "–" if row["least"] is None else f"{row['least']:g}",
                "–" if row["measured"] is None else f"{row['measured']:g}",
                row["verdict"],
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    told = "\n".join(_told(row) for row in rows if _told(row))
    return f"\n{text}\n\n{told}" if told else f"\n{text}"


def find(rows: Iterable[Row], section: str, name: str, figure: str) -> float | None:
    """A figure of the first row of that name; None where it was not measured."""
    for row in rows:
        if row["section"] == section and row.get("row") == name and figure in row:
            return row[figure]
    return None


def _rate(name: str) -> Callable[[Sequence[Row]], float | None]:
    return lambda rows: find(rows, "chain", name, "images_per_s")


def _sam3(rows: Sequence[Row]) -> float | None:
    return find(rows, "sam3", "uniform, preset sam3, 10 tags", "images_per_s")


def _over_the_script(rows: Sequence[Row]) -> float | None:
    ours = find(rows, "chain", "web", "images_per_s")
    theirs = find(rows, "peers", "public script, float32, web", "images_per_s")
    return round(ours / theirs, 2) if ours and theirs else None


def _small_card(rows: Sequence[Row]) -> float | None:
    """The memory of the row that was limited, unless it ran out."""
    for row in rows:
        if row["section"] == "chain" and "within" in row.get("row", "") and "images_per_s" in row:
            ran_out = any("out of memory" in warning for warning in row["warnings"])
            return float("inf") if ran_out else row.get("peak_reserved_gib")
    return None


def _best_step(rows: Sequence[Row]) -> float | None:
    """Of the ways with packing and the patch loss."""
    shares = [
        row["share_of_matrix_rate"]
        for row in rows
        if row["section"].startswith("training")
        and row.get("row", "").startswith("packed")
        and "no patch loss" not in row.get("row", "")
        and "share_of_matrix_rate" in row
    ]
    return max(shares, default=None)


def _verdict(bar: Bar, found: float | None) -> str:
    if found is None:
        return NOT_MEASURED
    if found <= bar.goal if bar.downwards else found >= bar.goal:
        return "goal reached"
    if bar.least is not None and found >= bar.least:
        return "least reached"
    return "missed"


def _told(row: Row) -> str:
    where = f"{row['section']}: {row['row']}" if "row" in row else row["section"]
    for key, words in {
        "error": "failed",
        "not_there": "not there",
        "not_run": "not run",
        "stopped_after_s": "stopped at its limit of seconds",
        "exit_code": "ended with code",
    }.items():
        if key in row:
            return f"{where}: {words}: {row[key]}"
    return ""


BARS = (
    Bar("chain, one size, bf16 exact", 50, 41, _rate("uniform")),
    Bar("chain, web-like sizes, own tags, bf16 exact", 40, 30, _rate("web")),
    Bar("the same with --segment.quantize fp8", 58, 45, _rate("web, quantize fp8")),
    Bar("preset fast, web-like sizes", 80, 60, _rate("web, preset fast")),
    Bar("preset sam3, one size, ten tags", 25, 15, _sam3),
    Bar("over the public script's way, web-like sizes", 20, 10, _over_the_script, "times"),
    Bar(
        "launches of a pass of Grounding DINO",
        *(700, None),
        lambda rows: find(rows, "launches", "detector", "launches"),
        *("launches", True),
    ),
    Bar(
        "launches of SAM's encoder",
        *(330, None),
        lambda rows: find(rows, "launches", "segmenter's encoder", "launches"),
        *("launches", True),
    ),
    Bar(
        "stage 1 at 7B, share of the card's measured matrix rate",
        *(0.5, 0.42),
        _best_step,
        "share",
    ),
    Bar("default batch sizes on a card of 24 GB", 22, None, _small_card, "GiB", True),
)
"""The bars of the project, in the order of its plan; they are for an H200."""
