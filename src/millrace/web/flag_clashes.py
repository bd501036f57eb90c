"""Two people change one flag: what each of them did, side by side."""

from msgspec import Struct

from millrace.web.asked import Asked, program_of
from millrace.web.flag_asked import flags_of
from millrace.web.flag_forms import FlagForm, pretty
from millrace.web.flag_views import HistoryLine, changed_words, history_lines, owner_words

THEIRS_MAX = 20


class Clash(Struct, frozen=True, kw_only=True):
    """What happened to a flag since a form was made from it.

    began, now: the version of the form, and the one that stands; gone: it was removed.
    your_content: the definition of the form, to be put over theirs.
    """

    key: str
    owner: str
    reason: str
    began: int
    now: int
    gone: bool
    theirs: list[HistoryLine]
    yours: list[str]
    their_json: str
    your_json: str
    your_content: str


async def clash_of(request: Asked, form: FlagForm, content: str) -> Clash | None:
    """Return what somebody else did since the form was made; None where nobody did anything.

    content: the definition that the form stands for.
    """
    flag = await flags_of(request).find(form.key)
    stands = flag.version if flag else 0
    if stands == form.version:
        return None
    flags, now = flags_of(request), program_of(request).clock.now()
    changes = await flags.history(form.key, THEIRS_MAX, None)
    theirs = [one for one in changes if one.version > form.version]
    before = theirs[-1].before if theirs else ""
    began = next((one for one in changes if one.version == form.version), None)
    owned = owner_words(began.owner, form.owner) if began else []
    return Clash(
        key=form.key,
        owner=form.owner,
        reason=form.reason,
        began=form.version,
        now=stands,
        gone=flag is None,
        theirs=history_lines(changes, now, stands)[: len(theirs)],
        yours=[*changed_words(form.key, before, content), *owned],
        their_json=pretty(flag.content) if flag else "",
        your_json=pretty(content),
        your_content=content,
    )
