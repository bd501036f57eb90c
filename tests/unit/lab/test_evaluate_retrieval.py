"""A report of retrieval says what a trained encoder adds, where there is one, and nothing otherwise."""

from millrace.lab.evaluate_retrieval import NEW, SYSTEMS, TRAINED, Outcome, _differences

LIKED = frozenset({7, 8})
FOUND, MISSED = [7, 8, 1, 2], [1, 2, 3, 4]


def outcome(*systems: str) -> Outcome:
    made = Outcome()
    for member in range(20):
        rankings = dict.fromkeys((*SYSTEMS, *systems), MISSED)
        rankings["zero_shot"] = FOUND if member % 2 else MISSED
        rankings["zero_shot_pooled"] = FOUND if member % 4 else MISSED
        rankings |= dict.fromkeys(systems, FOUND)
        made.judge(member, LIKED, rankings, new=member < 10)
    return made


def test_a_trained_encoder_is_put_beside_the_untrained():
    found = _differences(outcome(TRAINED), 1)

    gap, times = found["trained_minus_zero_shot_recall_10"], found["trained_to_zero_shot_recall_10"]
    assert gap.value == 0.5
    assert times.value == 2.0
    assert 0.2 < gap.interval[0] < gap.interval[1] < 0.8
    assert found[f"trained_to_zero_shot_{NEW}"].value == 2.0
    assert found["trained_minus_zero_shot_pooled_recall_10"].value == 0.25


def test_without_one_nothing_is_said_of_it():
    assert not [name for name in _differences(outcome(), 1) if TRAINED in name]


def test_both_forms_of_the_untrained_encoder_are_compared():
    found = _differences(outcome(), 1)

    assert found["zero_shot_pooled_minus_zero_shot_recall_10"].value == 0.25
    assert found["zero_shot_pooled_to_zero_shot_recall_10"].value == 1.5
    assert found["feed_minus_zero_shot_pooled_ndcg_10"].value < 0
