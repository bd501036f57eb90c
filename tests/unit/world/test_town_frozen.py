"""Goal: `town v1` stays what it is: the same parameters give the same towns in every release.

The table is frozen with the version; a change of the model, of a text or of a draw is a `town v2`
with a table of its own. Until the version is frozen, whoever changes it on purpose renews the table:
`MILLRACE_TEST_RENEW=1 pytest tests/unit/world/test_town_frozen.py`.
"""

import json
import os
from pathlib import Path

import pytest

from millrace.world.simulator.making import make
from millrace.world.simulator.types import VERSION, TownConfig

FILE = Path(__file__).parents[2] / "conformance" / "town_v1.json"
CONFIGS = [
    {"seed": 1, "members": 60, "posts": 240, "impressions": 1200, "communities": 2, "days": 6},
    {
        "seed": 2, "members": 60, "posts": 240, "impressions": 1200, "communities": 1, "days": 6,
        "overlap": 1.0, "drift": 1.0, "noise": 0.0, "popularity": 1.0,
    },
    {
        "seed": 3, "members": 40, "posts": 200, "impressions": 400, "communities": 3, "days": 4,
        "overlap": 0.0, "drift": 0.0, "noise": 1.0, "popularity": 0.0,
    },
]  # fmt: skip


def made():
    """Return the table as it comes out now."""
    rows = [
        {"config": config, "digest": make(TownConfig(**config), lambda *_: None).digest()}
        for config in CONFIGS
    ]
    return {"version": VERSION, "towns": rows}


def test_the_towns_are_those_of_the_table():
    found = made()
    if os.environ.get("MILLRACE_TEST_RENEW"):
        FILE.write_text(json.dumps(found, indent=2) + "\n")
        pytest.skip("the table was written anew")

    expected = json.loads(FILE.read_text())

    assert found == expected, "a town came out different: that is another version"
