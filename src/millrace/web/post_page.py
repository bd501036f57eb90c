"""A post with its thread, and the form that adds to it."""

from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from millrace.community.types import CommentView, Key, parse_key
from millrace.kernel.errors import InvalidError
from millrace.web.asked import Asked, form_of, go, page, program_of, viewer_of
from millrace.web.cards import card_of, remarks_of
from millrace.web.forms import ReplyForm, said
from millrace.web.shell import me_of, panel_of, renderer, shell_of

THREAD_PAGE = 200
Text = Annotated[str, QueryParameter(max_length=60)]


@get("/posts/{post_id:str}", include_in_schema=False)
async def show_post(
    request: Asked,
    post_id: FromPath[str],
    after: Text = "",
    answer: Text = "",
    commented: Text = "",
) -> Response[str]:
    """Show a post with its thread. `answer` names the comment that the form answers."""
    key = parse_key(post_id, "post_id")
    begin = parse_key(after, "after").id if after else 0
    return await _show(request, key, after=begin, answer=answer, commented=bool(commented))


async def _show(
    request: Asked,
    key: Key,
    *,
    after: int = 0,
    answer: str = "",
    commented: bool = False,
    refused: ReplyForm | None = None,
) -> Response[str]:
    program, viewer = program_of(request), viewer_of(request)
    now = program.clock.now()
    view = await program.posts.get(viewer, key)
    thread = await program.threads.thread(viewer, key, after, THREAD_PAGE)
    panel = await panel_of(program, viewer, viewer.member) if viewer.member else None
    remarks = remarks_of(thread, viewer.member, now)
    reply = refused or ReplyForm(to=next((one for one in remarks if one.key == answer), None))
    content = renderer().text(
        "post.html",
        shell=shell_of(request, me_of(viewer, panel)),
        me=panel,
        post=card_of(view, viewer.member, now),
        remarks=remarks,
        remarks_more=_following(thread),
        reply=reply,
        commented=commented,
    )
    return page(content, status=422 if refused else 200)


@post("/posts/{post_id:str}/comments", include_in_schema=False)
async def comment(request: Asked, post_id: FromPath[str]) -> Response[str] | Response[None]:
    """Add a comment, and go to it; what is wrong is said above the text."""
    program, viewer = program_of(request), viewer_of(request)
    key, form = parse_key(post_id, "post_id"), await form_of(request)
    parent = form.text("parent")
    try:
        made = await program.threads.comment(
            viewer, key, form.text("text"), parse_key(parent, "parent") if parent else None
        )
    except InvalidError as error:
        refused = ReplyForm(text=form.text("text"), error=said(error))
        return await _show(request, key, refused=refused)
    name = Key(made.community_id, made.comment_id)
    return go(f"/posts/{key}?commented=1#comment-{name}")


def _following(thread: list[CommentView]) -> str:
    """Return where the next comments begin, or nothing at the end."""
    if len(thread) < THREAD_PAGE:
        return ""
    last = thread[-1].comment
    return str(Key(last.community_id, last.comment_id))
