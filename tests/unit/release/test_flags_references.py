"""Where code names flags: every literal with its line, none in what is not one's own code."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.release.flags import references
from millrace.release.flags.references import Found, search


@pytest.fixture
def tree(tmp_path: Path):
    """A writer of small trees."""

    def write(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def places(found: Found, key: str) -> list[tuple[str, int]]:
    """Return where a key is named."""
    return [(one.file, one.line) for one in found.references[key]]


def test_literals_are_found_with_file_and_line(tree) -> None:
    root = tree({
        "app/main.py": 'x = 1\nif on("new-home"):\n    pass\ny = \'new-home\'\n',
        "web/page.ts": "const a = `feed.depth`, b = {'new-home': 'feed.depth'}\n",
        "app/other.py": 'say("new-homes", "a new-home", "new-home ", new-home)\n',
    })  # fmt: skip

    found = search(root, ["new-home", "feed.depth", "old"])

    assert places(found, "new-home") == [("app/main.py", 2), ("app/main.py", 4), ("web/page.ts", 1)]
    assert places(found, "feed.depth") == [("web/page.ts", 1), ("web/page.ts", 1)]
    assert found.references["new-home"][0].text == 'if on("new-home"):'
    assert found.unreferenced() == ["old"]
    assert found.files == 3


def test_an_apostrophe_in_prose_hides_nothing(tree) -> None:
    root = tree({"a.py": "# it isn't on\nf('a', \"the-flag\")  # don't\n"})

    assert places(search(root, ["the-flag"]), "the-flag") == [("a.py", 2)]


def test_what_stands_between_two_texts_takes_no_quote_from_either(tree) -> None:
    root = tree({"a.js": 'x=""+"the-flag";y={"the-flag":"the-flag"}\n'})

    assert search(root, ["the-flag"]).counts == {"the-flag": 3}


@pytest.mark.parametrize(
    "call",
    [
        'client.get_boolean_value("gone", False)',
        "client.get_string_details(\n    'gone',\n    '')",
        'await client.get_integer_value_async("gone", 1)',
        "client.getBooleanValue('gone', false)",
        'client.GetNumberDetailsAsync("gone", 1)',
        'client.BooleanValue(ctx, "gone", false, evalCtx)',
        'client.FloatValueDetails(context.Background(), "gone", 1)',
        'client.getBooleanValue(key: "gone", defaultValue: false)',
        'client.get_object_value(flag_key="gone", default_value={})',
        "const [on] = useBooleanFlagValue('gone', false)",
        "useSuspenseFlag(`gone`, false)",
        'program.flags.evaluate("gone", context)',
        'fetch("/ofrep/v1/evaluate/flags/gone")',
    ],
)
def test_a_question_for_a_flag_that_there_is_not(tree, call: str) -> None:
    root = tree({"a.py": f"one()\n{call}\n"})

    found = search(root, ["here"])
    known = search(root, ["gone"])

    assert [(one.key, one.file) for one in found.unknown] == [("gone", "a.py")]
    assert found.unknown[0].line == (3 if "\n" in call else 2)
    assert known.unknown == []
    assert known.counts == {"gone": 1}


@pytest.mark.parametrize(
    "line",
    ["d.get('gone')", "value('gone')", 'x = "gone"', "f'/ofrep/v1/evaluate/flags/{key}'",
     "client.get_boolean_value(KEY, False)", "sort_by_value('gone')"],
)  # fmt: skip
def test_other_calls_ask_for_no_flag(tree, line: str) -> None:
    assert search(tree({"a.py": line + "\n"}), ["here"]).unknown == []


def test_what_is_not_ones_own_code_is_left_out_and_told(tree) -> None:
    named = 'use("the-flag")\n'
    root = tree({
        "node_modules/lib/i.js": named,
        "py/pyvenv.cfg": "home = /usr\n",
        "py/lib/x.py": named,
        "build/made.js": named,
        "README.md": named,
        "logo.png": named,
        "data": b"\0\1" + named.encode(),
        "huge.js": named * (references.FILE_BYTES_MAX // len(named) + 1),
        "flags.json": json.dumps({"flags": {"the-flag": {"variants": {}}}}),
        "mine.py": "pass\n",
    })  # fmt: skip
    (root / "loop").symlink_to(root)

    found = search(root, ["the-flag"])

    assert found.counts == {"the-flag": 0}
    assert (found.files, found.incomplete) == (1, "")
    assert found.skipped == {
        "folders named node_modules": 1, "folders named py": 1, "folders named build": 1,
        "documents, pictures and archives": 2, "binary files": 1, "files over 2 MiB": 1,
        "files of flag definitions": 1,
    }  # fmt: skip


def test_ignored_files_are_left_out_and_written_ones_are_not(tree) -> None:
    named = 'use("the-flag")\n'
    root = tree({
        ".git/HEAD": "ref\n",
        ".gitignore": "*.gen.py\nmade/\n!/kept.gen.py\n",
        "a.gen.py": named,
        "kept.gen.py": named,
        "made/b.py": named,
        "build/c.py": named,
        "sub/.gitignore": "/local.py\n",
        "sub/local.py": named,
        "sub/more/local.py": named,
    })  # fmt: skip

    whole = search(root, ["the-flag"])
    part = search(root / "sub", ["the-flag"])

    assert [file for file, _ in places(whole, "the-flag")] == [
        "kept.gen.py", "build/c.py", "sub/more/local.py",
    ]  # fmt: skip
    assert places(part, "the-flag") == [("more/local.py", 1)]


def test_a_folder_within_a_checkout_obeys_the_files_above(tree) -> None:
    root = tree({
        ".git/HEAD": "ref\n", ".gitignore": "sub/x.py\n", "sub/x.py": '"f"\n', "sub/y.py": '"f"\n',
    })  # fmt: skip

    assert places(search(root / "sub", ["f"]), "f") == [("y.py", 1)]


def test_a_search_that_stops_early_says_so_and_blames_no_flag(tree) -> None:
    root = tree({f"{n}.py": "pass\n" for n in range(4)})

    found = search(root, ["the-flag"], files_max=3)

    assert "more than 3 files" in found.incomplete
    assert found.unreferenced() == []


def test_many_places_of_one_key_are_counted_and_some_are_shown(tree) -> None:
    found = search(tree({"a.py": '"f"\n' * 500}), ["f"])

    assert found.counts == {"f": 500}
    assert len(found.references["f"]) == references.PLACES_PER_KEY_MAX
    assert found.references["f"][-1].line == references.PLACES_PER_KEY_MAX


def test_a_line_of_a_minified_file_is_shown_in_part(tree) -> None:
    found = search(tree({"a.js": "x;" * 50_000 + '"the-flag"' + ";y" * 50_000}), ["the-flag"])

    (place,) = found.references["the-flag"]
    assert "the-flag" in place.text
    assert len(place.text) <= references.LINE_CHARACTERS_MAX


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        search(tmp_path / "none", ["f"])


QUOTES = st.sampled_from("\"'`")
KEYS = st.text(st.sampled_from("abc.-_é"), min_size=1, max_size=6)


@given(
    keys=st.sets(KEYS, min_size=1, max_size=5),
    lines=st.lists(st.tuples(KEYS, QUOTES, st.sampled_from(["", "f(", "x = ", "don't "]))),
)
def test_every_quoted_key_is_found_once(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], lines: list[tuple[str, str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    text = "\n".join(f"{before}{quote}{key}{quote}" for key, quote, before in lines)
    (root / "a.py").write_text(text, encoding="utf-8")

    found = search(root, keys)

    for key in keys:
        wanted = [number for number, (named, _, _) in enumerate(lines, 1) if named == key]
        assert [one.line for one in found.references[key]] == wanted
