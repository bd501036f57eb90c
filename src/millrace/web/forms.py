"""What the forms hold before and after they are sent."""

from typing import TypeVar

from msgspec import Struct

from millrace.community.types import (
    COMMENT_MAX,
    LINK_MAX,
    TEXT_MAX,
    TITLE_MAX,
    Audience,
    NewPost,
    PostKind,
)
from millrace.kernel.errors import InvalidError, MillraceError
from millrace.web.asked import Form
from millrace.web.cards import AUDIENCE_LABELS, KIND_LABELS, Remark

T = TypeVar("T", PostKind, Audience)
Choices = tuple[tuple[str, str], ...]
KINDS: Choices = tuple((kind.value, label) for kind, label in KIND_LABELS.items())
AUDIENCES: Choices = tuple((kind.value, label) for kind, label in AUDIENCE_LABELS.items())


class ComposeForm(Struct, frozen=True, kw_only=True):
    """The form of a new post, with what was typed and what is wrong with it.

    field: the field that `error` is about.
    """

    text: str = ""
    title: str = ""
    link: str = ""
    topics: str = ""
    kind: str = PostKind.NOTE.value
    audience: str = Audience.COMMUNITY.value
    error: str = ""
    field: str = ""
    kinds: Choices = KINDS
    audiences: Choices = AUDIENCES
    text_max: int = TEXT_MAX
    title_max: int = TITLE_MAX
    link_max: int = LINK_MAX


class ReplyForm(Struct, frozen=True, kw_only=True):
    """The form of a new comment. `to` is the comment that it answers."""

    text: str = ""
    error: str = ""
    to: Remark | None = None
    text_max: int = COMMENT_MAX


def new_post(form: Form) -> NewPost:
    """Read the form of a new post; the room checks lengths and links.

    A kind or an audience that does not exist is an InvalidError.
    """
    topics = [topic.strip().removeprefix("#").strip() for topic in form.text("topics").split(",")]
    return NewPost(
        text=form.text("text"),
        title=form.text("title"),
        link=form.text("link"),
        topics=[topic for topic in topics if topic],
        kind=_choice(form, "kind", PostKind, PostKind.NOTE),
        audience=_choice(form, "audience", Audience, Audience.COMMUNITY),
    )


def _choice(form: Form, name: str, kind: type[T], usual: T) -> T:
    """Read a choice.

    Raises:
        InvalidError: it is none of the list.
    """
    value = form.text(name)
    try:
        return kind(value) if value else usual
    except ValueError as exc:
        raise InvalidError(
            f"{name} {value[:40]!r} does not exist",
            field=name,
            value=value[:40],
            limit=", ".join(kind),
            next_step="choose one from the list",
        ) from exc


def compose_of(form: Form, error: InvalidError) -> ComposeForm:
    """Return the form as it was sent, with what is wrong."""
    return ComposeForm(
        text=form.text("text"),
        title=form.text("title"),
        link=form.text("link"),
        topics=form.text("topics"),
        kind=form.text("kind"),
        audience=form.text("audience"),
        error=said(error),
        field=(error.field or "").partition("[")[0].partition(".")[0],
    )


def said(error: MillraceError) -> str:
    """Return an error as one line: what is wrong, and what to do."""
    message = error.message[:1].upper() + error.message[1:]
    return f"{message}. {error.next_step}." if error.next_step else f"{message}."
