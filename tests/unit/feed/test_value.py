"""The file of action weights."""

import numpy as np
import pytest

from millrace.feed.models import values_of
from millrace.feed.types import FeedConfig
from millrace.feed.value import ACTIONS, parse
from millrace.kernel.errors import SetupError

GOOD = "[weights]\n" + "\n".join(
    f"{action.value} = {-2.0 if action.value in ('hide', 'mute', 'block', 'report') else 1.0}"
    for action in ACTIONS
)


def test_packaged_file_names_every_action_with_its_sign():
    values = values_of(FeedConfig())

    named = dict(zip(ACTIONS, values.weights, strict=True))
    assert named["comment"] > named["like"] > named["click"] > 0
    assert named["report"] < named["hide"] < 0


def test_terms_sum_to_the_value():
    values = values_of(FeedConfig())
    chances = np.linspace(0.01, 0.5, len(ACTIONS))

    total = sum(note.value for note in values.notes(chances))

    assert values.of(chances[None, :])[0] == pytest.approx(total)


def test_another_file_is_another_version(tmp_path):
    file = tmp_path / "value.toml"
    file.write_text(GOOD, encoding="utf-8")

    values = values_of(FeedConfig(value_file=str(file)))

    assert values.version != values_of(FeedConfig()).version
    assert values.weights[0] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[weights", "is not TOML"),
        ("a = 1", r"no table \[weights\]"),
        (GOOD + "\nclap = 1", "does not name every action once: clap"),
        (GOOD.replace("like = 1.0", ""), "once: like"),
        (GOOD.replace("like = 1.0", "like = -1"), "weight of like in file is -1"),
        (GOOD.replace("hide = -2.0", "hide = 3"), "weight of hide in file is 3"),
        (GOOD.replace("like = 1.0", "like = nan"), "weight of like in file is nan"),
        (GOOD.replace("like = 1.0", "like = 'much'"), "weight of like in file is 'much'"),
        (GOOD.replace("like = 1.0", "like = 1e9"), "weight of like"),
    ],
)
def test_a_wrong_file_is_refused_with_its_reason(text, message):
    with pytest.raises(SetupError, match=message) as refused:
        parse(text, "file")

    assert refused.value.next_step


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SetupError, match=r"missing\.toml cannot be read"):
        values_of(FeedConfig(value_file=str(tmp_path / "missing.toml")))
