"""The page /docs: the OpenAPI document as plain HTML, with nothing loaded from anywhere."""

from __future__ import annotations

from html import escape
from typing import Any

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; } code { font-size: 0.95em; }
pre { padding: 0.75rem; overflow-x: auto; border: 1px solid; border-radius: 0.4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.9rem 0.3rem 0; }
tr { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
"""

_EXAMPLES = {
    "/annotate": (
        "curl --data-binary @photo.jpg '{url}/annotate'\n"
        "curl -F image=@photo.jpg -F caption='a dog' -F min_score=0.4 '{url}/annotate'\n"
        "curl -F image=@photo.jpg '{url}/annotate?render=1' -o picture.png"
    ),
    "/annotate/batch": "curl -F image=@a.jpg -F image=@b.jpg '{url}/annotate/batch'",
}


def page(document: dict[str, Any], url: str) -> str:
    """The HTML page of an OpenAPI document; `url` is the service's address in the examples."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} The whole description: ",
        "<a href='openapi.json'>openapi.json</a>.</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation, url))
    return "".join([*parts, "</body></html>"])


def _operation(path: str, method: str, operation: dict[str, Any], url: str) -> str:
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(operation.get('summary', ''))}</p>",
    ]
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in body)
        parts.append(f"<p>Body: {kinds}</p>")
    if path in _EXAMPLES:
        parts.append(f"<pre>{escape(_EXAMPLES[path].replace('{url}', url))}</pre>")
    parameters = [one for one in operation.get("parameters", []) if one["in"] == "query"]
    if parameters:
        rows = [(one["name"], one.get("description", "")) for one in parameters]
        parts.append(_table("In the query, or as fields of the form", rows))
    responses = [(code, one["description"]) for code, one in operation["responses"].items()]
    parts.append(_table("Responses", responses))
    return "".join(parts)


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(str(name))}</code></td><td>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table><tr><th colspan='2'>{escape(title)}</th></tr>{cells}</table>"
