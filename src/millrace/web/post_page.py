"""A post with its thread, and the form that adds to it."""

from asyncio import gather
from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from millrace.community.types import CommentView, Key, Role, parse_key
from millrace.kernel.errors import InvalidError
from millrace.web.asked import Asked, form_of, go, page, program_of, viewer_of
from millrace.web.cards import card_of, remarks_of
from millrace.web.forms import ReplyForm, said
from millrace.web.shell import drawn, renderer, shell_for

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
    shell, view, thread = await gather(
        shell_for(request),
        program.posts.get(viewer, key),
        program.threads.thread(viewer, key, after, THREAD_PAGE),
    )
    remarks = remarks_of(thread, viewer.member, now)
    return drawn(
        "post.html",
        shell,
        status=422 if refused else 200,
        post=card_of(view, viewer.member, now),
        remarks=remarks,
        remarks_more=_following(thread),
        reply=refused or ReplyForm(to=next((one for one in remarks if one.key == answer), None)),
        commented=commented,
        moderates=shell.me is not None and shell.me.moderates,
    )


@get("/posts/{post_id:str}/thread", include_in_schema=False)
async def show_thread(request: Asked, post_id: FromPath[str]) -> Response[str]:
    """Return the thread alone; the module asks for it while the post is looked at."""
    program, viewer, key = program_of(request), viewer_of(request), parse_key(post_id, "post_id")
    view = await program.posts.get(viewer, key)
    thread = await program.threads.thread(viewer, key, 0, THREAD_PAGE)
    now = program.clock.now()
    content = renderer().text(
        "_thread.html",
        me=viewer.member,
        post=card_of(view, viewer.member, now),
        remarks=remarks_of(thread, viewer.member, now),
        remarks_more=_following(thread),
        moderates=viewer.oversees or viewer.role is Role.MODERATOR,
    )
    return page(content)


@post("/posts/{post_id:str}/comments/{comment_id:str}/remove", include_in_schema=False)
async def remove_comment(
    request: Asked, post_id: FromPath[str], comment_id: FromPath[str]
) -> Response[None]:
    """Remove a comment, and go back to its thread; who removes another's says why."""
    key, comment_key = parse_key(post_id, "post_id"), parse_key(comment_id, "comment_id")
    form = await form_of(request)
    await program_of(request).threads.remove(viewer_of(request), comment_key, form.text("reason"))
    return go(f"/posts/{key}#comments")


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
