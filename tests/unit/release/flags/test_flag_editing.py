"""Goal: one member of a definition changes, and every other character stays as somebody wrote it."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.release.flags.editing import with_member

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(["state", "variants", "a", 'a"b', "", "é"])
GAPS = st.sampled_from(["", " ", "\n  ", "\t"])


@st.composite
def written(draw):
    """An object as somebody may write it: with gaps, escapes, and members twice."""
    members = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    parts = []
    for name, value in members:
        gaps = [draw(GAPS) for _ in range(4)]
        name, value = (json.dumps(each, ensure_ascii=draw(st.booleans())) for each in (name, value))
        parts.append(f"{gaps[0]}{name}{gaps[1]}:{gaps[2]}{value}{gaps[3]}")
    return f"{draw(GAPS)}{{{','.join(parts) or draw(GAPS)}}}{draw(GAPS)}"


@given(text=written(), name=NAMES, value=VALUES)
@example(text='{"state": 1, "a": {"state": 2}, "state": 3}', name="state", value="DISABLED")
def test_one_member_is_set_and_the_rest_stays(text, name, value):
    """Read back it is the object with the member; around it is the text that was."""
    said = json.dumps(value)
    before = json.loads(text)

    after = with_member(text, name, said)

    assert json.loads(after) == {**before, name: value}
    if name in before:
        start, end = _span(text, name)
        assert after == text[:start] + said + text[end:]
    else:
        head = text.index("{") + 1
        assert after.startswith(text[:head])
        assert after.endswith(text[head:])


def _span(text, name):
    """Where the value of a member stands: of the last of that name."""
    pairs = json.JSONDecoder(object_pairs_hook=list).decode(text)
    last = max(at for at, pair in enumerate(pairs) if pair[0] == name)
    decoder, at = json.JSONDecoder(), text.index("{") + 1
    for place in range(last + 1):
        while text[at] in " \t\n,":
            at += 1
        _, at = decoder.raw_decode(text, at)
        at = text.index(":", at) + 1
        while text[at] in " \t\n":
            at += 1
        _, end = decoder.raw_decode(text, at)
        if place == last:
            return at, end
        at = end
        while text[at] in " \t\n":
            at += 1
    raise AssertionError(name)


@pytest.mark.parametrize("text", ["", "[]", "1", '{"a" 1}', '{"a": 1 "b": 2}', "{1: 2}", '{"a": }'])
def test_what_is_no_object_is_refused(text):
    """Half an edit would be worse than none."""
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's own words
        with_member(text, "state", "1")
