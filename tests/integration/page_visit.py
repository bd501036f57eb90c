"""A visit to the pages without a browser, and whether what came is sound HTML."""

from html.parser import HTMLParser

from httpx import AsyncClient

from millrace.api.testing import MANY
from millrace.settings import RATES

RATE = dict.fromkeys(RATES, MANY)
HERE = "http://127.0.0.1"
OWN = {"origin": HERE, "accept": "text/html"}
VOID = {"meta", "link", "input", "br", "img", "hr", "use", "rect"}


async def enter(client: AsyncClient, form: dict[str, str], headers: dict[str, str] = OWN):
    """Send the sign-in form, and stay where the answer is."""
    return await client.post("/sign-in", data=form, headers=headers, follow_redirects=False)


class Balance(HTMLParser):
    """Notes the first end tag that does not belong to the open element, and every double id."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag, attrs):
        """Open an element."""
        name = dict(attrs).get("id")
        if name in self.ids:
            self.faults.append(f"id {name} stands twice")
        self.ids |= {name} if name else set()
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close an element."""
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")
