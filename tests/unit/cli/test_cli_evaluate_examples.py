"""What is written to learn from ends where the first question is asked."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from millrace.cli.exams import exam_of
from millrace.cli.main import millrace
from millrace.feed.examples import leaks
from millrace.feed.examples.reading import Examples
from millrace.lab.trained import trained

TOWN = {"members": 60, "posts": 240}
OPTIONS = ["--data", "town", "--quick", "--seed", "5", "--members", "60", "--posts", "240"]


def test_examples_of_an_evaluation_are_of_before_its_question(tmp_path: Path) -> None:
    """Goal: a model of these examples may be asked, and has learned none of the answers."""
    folder = tmp_path / "examples"
    ran = CliRunner().invoke(millrace, ["evaluate", "examples", str(folder), *OPTIONS, "--json"])
    assert ran.exit_code == 0, ran.output
    exam = exam_of("town", True, 5, TOWN, quiet)
    asked = exam.questions[0].at

    written = Examples(folder)
    told = json.loads(ran.stdout)
    assert datetime.fromisoformat(told["cut_at"]) == asked
    assert leaks.check(folder).cut_at == asked
    until = np.int64(asked.timestamp() * 1e6)
    assert len(written.at) > 50
    assert (written.labelled_until <= until).all()
    assert (written.post_known_at <= until).all()
    later = [one for _, one in exam.data.posts if one.created_at and one.created_at > asked]
    assert len(later) > 5, "there is something that could have been learned too early"
    (folder / "data.json").write_text(json.dumps({"cut_at": told["cut_at"]}))
    assert trained(folder, asked, elsewhere=False).cut_at == asked


def quiet(text: str) -> None:
    assert text
