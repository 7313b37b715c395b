"""The OpenAPI document, and that the service conforms to it, whatever it is sent."""

from __future__ import annotations

import hypothesis
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serve.service import Service, chain


async def metrics() -> str:
    return "pad_images 1\n"


APP = Service(chain(), max_queued=64, max_body_bytes=2**20, metrics=metrics).app
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


@schema.parametrize()
@hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
def test_every_answer_is_one_that_the_document_names(case: schemathesis.Case) -> None:
    # no schema can say that bytes are an image, or that no tag is both wanted and unwanted
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_the_document_names_the_routes_and_their_errors() -> None:
    document = APP.openapi()
    assert set(document["paths"]) == {
        *("/annotate", "/annotate/batch", "/healthz", "/readyz", "/metrics")
    }
    for path in ("/annotate", "/annotate/batch"):
        answers = document["paths"][path]["post"]["responses"]
        assert {"400", "413", "415", "422", "429", "503"} <= answers.keys()
        for status, answer in answers.items():
            if status != "200":
                [content] = answer["content"].values()
                assert content["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}
