"""Goal: no flag can fail an answer that holds the others too."""

import json
from typing import Any

import pytest

from millrace.api.wire_ofrep import failure, success
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.types import ErrorCode


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": "\x00"}, 10**30, [10**30, "\ud800"], 1.0])
def test_whatever_stands_in_the_store_can_be_told(value: Any):
    definition = {"state": "ENABLED", "variants": {"on": value}, "defaultVariant": "on"}
    metadata = {"owner": "\ud800", "number": 10**30}
    found = FlagSet.compile({"flags": {"a": definition}, "metadata": metadata}).evaluate("a", {}, 0)

    told = json.loads(success(found))

    assert told["value"] == value
    assert type(told["value"]) is type(value)
    assert told["metadata"] == metadata


def test_a_failure_is_told_whatever_was_asked_for():
    told = json.loads(failure(ErrorCode.GENERAL, "what \ud800", "half\udfff"))

    assert told == {"key": "half\udfff", "errorCode": "GENERAL", "errorDetails": "what \ud800"}
