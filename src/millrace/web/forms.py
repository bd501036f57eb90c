"""What the forms hold before and after they are sent."""

from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from millrace.community.languages import NAMED
from millrace.community.types import (
    ABOUT_MAX,
    BIGINT_MAX,
    COMMENT_MAX,
    HEADLINE_MAX,
    LINK_MAX,
    NAME_MAX,
    TEXT_MAX,
    TITLE_MAX,
    Audience,
    Member,
    NewPost,
    Post,
    PostChanges,
    PostKind,
    ProfileChanges,
)
from millrace.kernel.errors import InvalidError, MillraceError
from millrace.web.asked import Form
from millrace.web.cards import AUDIENCE_LABELS, KIND_LABELS, Remark

T = TypeVar("T", PostKind, Audience)
Choices = tuple[tuple[str, str], ...]
KINDS: Choices = tuple((kind.value, label) for kind, label in KIND_LABELS.items())
LANGUAGES: Choices = tuple(sorted(NAMED.items(), key=lambda pair: pair[1]))
AUDIENCES: Choices = tuple((kind.value, label) for kind, label in AUDIENCE_LABELS.items())


class Reach(Struct, frozen=True, kw_only=True):
    """An audience to choose, and who that is."""

    value: str
    label: str
    words: str


class ComposeForm(Struct, frozen=True, kw_only=True):
    """The form of a post, with what was typed and what is wrong with it.

    post: the key of a post that is changed; empty for a new one.
    version: the version of it that was shown.
    field: the field that `error` is about.
    """

    post: str = ""
    version: str = ""

    text: str = ""
    title: str = ""
    link: str = ""
    topics: str = ""
    kind: str = PostKind.NOTE.value
    audience: str = Audience.COMMUNITY.value
    language: str = "en"
    error: str = ""
    field: str = ""
    kinds: Choices = KINDS
    audiences: Choices = AUDIENCES
    languages: Choices = LANGUAGES
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
    return NewPost(
        text=form.text("text"),
        title=form.text("title"),
        link=form.text("link"),
        topics=[topic.removeprefix("#").strip() for topic in words_of(form.text("topics"))],
        language=form.text("language") or "en",
        kind=_choice(form, "kind", PostKind, PostKind.NOTE),
        audience=_choice(form, "audience", Audience, Audience.COMMUNITY),
    )


def changed_post(form: Form) -> PostChanges:
    """Read the form of a post that is changed: it holds every field."""
    return PostChanges(**asdict(new_post(form)))


def words_of(text: str) -> list[str]:
    """Return what stands between commas."""
    return [word for word in (part.strip() for part in text.split(",")) if word.strip("# ")]


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


def compose_of(form: Form, error: MillraceError, post: str = "") -> ComposeForm:
    """Return the form as it was sent, with what is wrong."""
    return ComposeForm(
        post=post,
        version=form.text("version"),
        text=form.text("text"),
        title=form.text("title"),
        link=form.text("link"),
        topics=form.text("topics"),
        kind=form.text("kind"),
        audience=form.text("audience"),
        language=form.text("language"),
        error=said(error),
        field=field_of(error),
    )


def written_form(post: Post) -> ComposeForm:
    """Return the form of a post that stands."""
    return ComposeForm(
        post=str(post.key),
        version=str(post.system_version),
        text=post.text,
        title=post.title,
        link=post.link,
        topics=", ".join(post.topics),
        kind=post.kind.value,
        audience=post.audience.value,
        language=post.language,
    )


def reach_of(community: str, reached: Sequence[str]) -> list[Reach]:
    """Say who sees a post for each audience, in the names of the communities."""
    near = f"Also members of {listed(reached)}." if reached else "No community is near this one."
    words = {
        Audience.COMMUNITY: f"Members of {community}, and nobody else.",
        Audience.NEARBY: near,
        Audience.PUBLIC: "Every member of every community here.",
    }
    return [
        Reach(value=one.value, label=AUDIENCE_LABELS[one], words=words[one]) for one in Audience
    ]


def listed(names: Sequence[str], shown_max: int = 4) -> str:
    """Return names as a sentence has them; many are cut: `A, B, C and 5 others`."""
    shown = list(names[:shown_max])
    if len(names) > shown_max:
        shown.append(f"{len(names) - shown_max} others")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


class ProfileForm(Struct, frozen=True, kw_only=True):
    """The form of one's own profile, with what is wrong with it. Lists stand with commas."""

    display_name: str = ""
    headline: str = ""
    about: str = ""
    skills: str = ""
    place: str = ""
    languages: str = ""
    version: str = ""
    error: str = ""
    field: str = ""
    name_max: int = NAME_MAX
    headline_max: int = HEADLINE_MAX
    about_max: int = ABOUT_MAX


def profile_form(member: Member) -> ProfileForm:
    """Return the form of a profile as it stands."""
    return ProfileForm(
        display_name=member.display_name,
        headline=member.headline,
        about=member.about,
        skills=", ".join(member.skills),
        place=member.place,
        languages=", ".join(member.languages),
        version=str(member.system_version),
    )


def refused_profile(form: Form, error: MillraceError) -> ProfileForm:
    """Return the form of a profile as it was sent, with what is wrong."""
    return ProfileForm(
        display_name=form.text("display_name"),
        headline=form.text("headline"),
        about=form.text("about"),
        skills=form.text("skills"),
        place=form.text("place"),
        languages=form.text("languages"),
        version=form.text("version"),
        error=said(error),
        field=field_of(error),
    )


def profile_changes(form: Form) -> ProfileChanges:
    """Read the form of a profile; the room checks every field."""
    return ProfileChanges(
        display_name=form.text("display_name"),
        headline=form.text("headline"),
        about=form.text("about"),
        skills=words_of(form.text("skills")),
        place=form.text("place"),
        languages=words_of(form.text("languages")),
    )


def number_of(text: str, field: str = "community") -> int:
    """Read a number that stands in an address, such as the id of a community.

    Raises:
        InvalidError: it is no whole number.
    """
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= BIGINT_MAX:
        return int(text)
    raise InvalidError(
        f"{field} {text[:40]!r} is not a number",
        field=field,
        value=text[:40],
        limit="a whole number",
        next_step="choose from the list",
    )


def version_of(form: Form) -> int | None:
    """Return the version that the form was made from; None where it names none.

    Passes on:
        InvalidError: it is no number.
    """
    text = form.text("version")
    return number_of(text, "version") if text else None


def field_of(error: MillraceError) -> str:
    """Return the field of a form that an error is about: `topics` of `topics[3]`."""
    return (error.field or "").partition("[")[0].partition(".")[0]


def said(error: MillraceError) -> str:
    """Return an error as one line: what is wrong, and what to do."""
    told = [error.message, error.next_step] if error.next_step else [error.message]
    return " ".join(f"{one[:1].upper()}{one[1:]}." for one in told)
