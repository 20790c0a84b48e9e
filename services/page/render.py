"""Templates to answers. Everything that is filled in is escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.page.say_times import say_ago, say_iso, say_share, say_time

_FOLDER = Path(__file__).parent
STATIC_FOLDER = _FOLDER / "static"


def _build_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=say_ago,
        iso=say_iso,
        share=say_share,
        time=say_time,
        number=lambda value: f"{value:,}".replace("-", "−"),
        part=lambda value: quote(value, safe=""),
    )
    return environment


_environment = _build_environment()


def render(
    request: Request, template: str, code: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """A page."""
    session = getattr(request.state, "session", None)
    text = _environment.get_template(template).render(session=session, path=request.url.path, **values)
    return HTMLResponse(text, code, dict(headers or {}))
