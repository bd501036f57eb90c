"""Rules of the looks: contrast, nothing inline, nothing from elsewhere, nothing unescaped."""

import re
from pathlib import Path

import pytest

from millrace.kernel.errors import NotFoundError
from millrace.web import assets as assets_module
from millrace.web.assets import Assets
from millrace.web.cards import AUDIENCE_LABELS, KIND_LABELS
from millrace.web.cases import MOVE_ICONS, STATE_ICONS
from millrace.web.crowds import SHADES
from millrace.web.face import HUES
from millrace.web.flag_request_views import STATE_ICONS as REQUEST_ICONS
from millrace.web.problem_page import problem_page

ROOM = Path(assets_module.__file__).parent
CSS = (ROOM / "static/app.css").read_text()
SCRIPT = (ROOM / "static/app.js").read_text()
TEMPLATES = sorted((ROOM / "templates").glob("*.html"))
PAIRS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS
    )
}
TEXT_ON = [
    (text, ground)
    for text in ("ink", "soft-ink", "muted", "accent")
    for ground in ("ground", "surface", "sunken")
] + [
    ("soft-ink", "accent-soft"), ("accent", "accent-soft"), ("ink", "accent-soft"),
    ("accent-hover", "accent-soft"), ("accent-hover", "surface"), ("on-accent", "accent"),
    ("on-accent", "accent-hover"), ("love", "surface"), ("love", "love-soft"), ("love", "ground"),
    ("warn", "warn-soft"), ("bad", "bad-soft"), ("on-bad", "bad"), ("bad", "surface"),
    ("ink", "mark"), ("soft-ink", "mark"), ("accent", "mark"),
]  # fmt: skip


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_ON)
def test_text_is_readable(text, ground, theme):
    """Every pair of text and ground that the style uses keeps 4.5 : 1, in both themes."""
    ratio = contrast(PAIRS[text][theme], PAIRS[ground][theme])

    assert ratio >= 4.5, f"--{text} on --{ground} has {ratio:.2f}: change one in app.css"


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_fields_have_an_edge(theme):
    """The edge of a field keeps 3 : 1 against the card."""
    assert contrast(PAIRS["strong-line"][theme], PAIRS["surface"][theme]) >= 3


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_pieces_of_a_bar_are_seen(theme):
    """Every variant's colour keeps 3 : 1 against the card and the bar's ground; each has a class."""
    shades = {name: pair[theme] for name, pair in PAIRS.items() if name.startswith("shade-")}

    assert len(shades) == SHADES + 1
    assert all(f".shade-{name} {{ fill" in CSS for name in [*range(1, SHADES + 1), "plain", "none"])
    for ground in ("surface", "sunken"):
        weak = [n for n, shade in shades.items() if contrast(shade, PAIRS[ground][theme]) < 3]
        assert not weak, f"{weak} on --{ground}"


def test_initials_are_readable():
    """White on every face keeps 4.5 : 1, and every hue has a face."""
    hues = dict(re.findall(r"\.hue-(\d) \{ background: (#[0-9a-f]{6})", CSS))

    assert set(hues) == {str(n) for n in range(HUES)}
    assert all(contrast("#ffffff", colour) >= 4.5 for colour in hues.values())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_need_no_exception_from_the_content_policy(template):
    """No template holds inline script or style, an outside address, or unescaped text."""
    text = template.read_text()

    for pattern, instead in {
        r"\bstyle=": "a class in app.css",
        r"\son[a-z]+=": "data-do and app.js",
        r"<script(?! type=\"module\" src=)": "app.js",
        r"<style": "app.css",
        r"\|\s*safe|autoescape|Markup": "plain values",
        r"(?:src|action)=\"https?:": "a path of this site",
        r"\bjavascript:": "a handler in app.js",
    }.items():
        assert not re.search(pattern, text), f"{template.name} matches {pattern}: use {instead}"


def test_the_style_and_the_script_load_nothing_from_elsewhere():
    """No address of another host stands in what pages load."""
    assert not re.search(r"https?:|@import|url\(", CSS)
    assert not re.search(r"https?://|\beval\b|import\(|new Function", SCRIPT)


def test_every_icon_exists():
    """Whatever a template or a label asks for is in the sprite."""
    sprite = set(re.findall(r'<symbol id="([a-z]+)"', (ROOM / "static/icons.svg").read_text()))
    named = r'(?:icon\(|entry\("[^"]*", )"([a-z]+)"'
    asked = {n for t in TEMPLATES for n in re.findall(named, t.read_text())}
    asked |= {kind.value for kind in KIND_LABELS} | {kind.value for kind in AUDIENCE_LABELS}
    asked |= {*MOVE_ICONS.values(), *STATE_ICONS.values(), *REQUEST_ICONS.values()}

    assert asked - sprite == set()
    assert sprite - asked == set(), "remove unused icons from icons.svg"


def test_every_action_of_a_template_is_handled():
    """A button that names an action finds it in the module, and no action is without a button."""
    asked = {n for t in TEMPLATES for n in re.findall(r'data-do="([a-z]+)"', t.read_text())}
    table = re.search(r"const actions = \{(.*?)\n\};", SCRIPT, re.DOTALL)
    handled = set(re.findall(r"\b([a-z]+)(?:,|:)", table.group(1)))

    assert asked - {"comment"} == handled


def test_assets_are_what_lies_in_static_and_nothing_else():
    """A name that climbs out of the folder is just a name that does not exist."""
    assets = Assets()

    assert assets.get("app.css").media_type.startswith("text/css")
    assert assets.address("app.js").startswith("/static/app.js?v=")
    for name in ("../pages.py", "..%2fpages.py", "", "/etc/passwd", "app.css/"):
        with pytest.raises(NotFoundError, match="there is no file"):
            assets.get(name)


def test_a_problem_is_told_and_escaped():
    """The page of a problem says what, what next, and where to look; nothing in it is markup."""
    page = problem_page(404, "post <b>1</b> is gone", "go back", "r-1")

    assert "There is nothing here" in page
    assert "Post &lt;b&gt;1&lt;/b&gt; is gone" in page
    assert "go back" in page
    assert "r-1" in page
    assert "Something went wrong" in problem_page(500, "x", "", "")
