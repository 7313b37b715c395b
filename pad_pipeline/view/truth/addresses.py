"""What the ground-truth pages take in their addresses, and addresses of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

from pad_pipeline.ground_truth.entries import Kind
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.parameters import Fraction, OptionalInForm, PageNumber, Parameters
from pad_pipeline.view.truth.queries import Chosen, Show, TagSort, TruthSort
from pad_pipeline.view.truth.rules import Rule


class RuleQuery(Parameters, frozen=True):
    """By what is compared, from which IoU on a region finds an object, and which regions count."""

    by: Annotated[Kind, OptionalInForm] = "boxes"
    iou: Annotated[Literal["0.5", "0.75"], OptionalInForm] = "0.5"
    min_score: Fraction = None

    @property
    def rule(self) -> Rule:
        """All as one."""
        return Rule(self.by, float(self.iou), self.min_score or 0.0)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What a form for another least score keeps: all values but that and the page."""
        return parse_qsl(self.query(min_score=None, page=None))

    def address(self, path: str, /, **changes: Any) -> str:
        """`path` with these values, and `changes` to them or further ones, as its query."""
        query = self.query(**changes)
        return f"{path}?{query}" if query else path

    def query(self, **changes: Any) -> str:
        """These values and `changes`, without those that are as by default."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        values = {**self.model_dump(), **changes}
        return urlencode(
            {k: v for k, v in values.items() if v is not None and v != defaults.get(k)}
        )


class TagsQuery(RuleQuery, frozen=True):
    """The tags whose name holds `q`, a page at a time."""

    q: str = ""
    sort: Annotated[TagSort, OptionalInForm] = "errors"
    page: PageNumber = 1


class ImagesQuery(RuleQuery, frozen=True):
    """The images that have an outcome, perhaps of one tag; `named` is the region's wrong tag."""

    show: Annotated[Show, OptionalInForm] = "errors"
    tag: str = ""
    named: str = ""
    sort: Annotated[TruthSort, OptionalInForm] = "errors"
    page: PageNumber = 1

    @property
    def chosen(self) -> Chosen:
        """The list that they make."""
        return Chosen(self.rule, self.show, self.tag, self.named, self.sort)

    def of_image(self, image_id: str) -> str:
        """The address of one image's page in this list."""
        return of_image(image_id, "truth/image", self.query(page=None))
