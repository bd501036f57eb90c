"""Templates to text. Every value is escaped; an unknown name in a template is an error."""

from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from millrace.web.assets import Assets
from millrace.web.counts import short_count


class Renderer:
    """The templates of this room."""

    def __init__(self, assets: Assets) -> None:
        self._templates = Environment(
            loader=PackageLoader("millrace.web"),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        known = cast("dict[str, Any]", self._templates.globals)
        known["asset"] = assets.address
        self._templates.filters["short"] = short_count

    def text(self, name: str, **values: object) -> str:
        """Return a template filled with values."""
        return self._templates.get_template(name).render(**values)
