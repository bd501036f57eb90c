#!/usr/bin/env bash
# What an encoder learns, and by what: every row of the ablations, in towns of 3,000 posts.
#   runs/encoder-ablations.sh OUT [SEED...]     QUICK=1 only tries it out; SEEDS=1 STEPS=100 take less
# One folder and one JSON file per town in OUT, and a table of them at the end. What was trained is
# not trained again, so a run that was interrupted goes on, in the middle of a training too. Nothing
# else should run: about five hours of processor time a town (0.1 seconds a pair), half of that on
# two cores, each of which trains one model at a time (JOBS).
set -euo pipefail
out=${1:?name a folder for the results}
shift
[ $# -gt 0 ] || set -- 7101
millrace=${MILLRACE:-.venv/bin/millrace}
options=(--jobs "${JOBS:-2}" ${QUICK:+--quick} ${SEEDS:+--seeds "$SEEDS"} ${STEPS:+--steps "$STEPS"} ${ROWS:+--rows "$ROWS"})
export OMP_NUM_THREADS=1
mkdir -p "$out"

# overlap drift noise: little drift, because at 0.5 a history tells nearly all that texts can tell
towns="
0.3 0.1 0.3
"
while read -r overlap drift noise; do
  [ -n "$overlap" ] || continue
  for seed in "$@"; do
    name="o$overlap-d$drift-n$noise-s$seed"
    echo "overlap $overlap, drift $drift, noise $noise, seed $seed" >&2
    "$millrace" evaluate encoder-ablations --data town --overlap "$overlap" --drift "$drift" \
      --noise "$noise" --seed "$seed" --to "$out/$name" "${options[@]}" --json \
      >"$out/$name.json.part" </dev/null
    mv "$out/$name.json.part" "$out/$name.json"
  done
done <<<"$towns"

python3 - "$out" <<'END'
import json, pathlib, sys


def share(value):
    return "-" if value is None else f"{100 * value:+.1f} %"


def gap(one):
    if one is None:
        return "-"
    low, high = one["interval"]
    return f"{one['value']:+.4f} ({low:+.4f} to {high:+.4f})"


def number(value, form):
    return "-" if value is None else format(value, form)


columns = ("row", "recall@10", "new members", "beside", "difference", "relative", "LinkedIn's",
           "popularity", "difference", "MiB a sequence", "in a GiB", "ms a step")
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    found = json.loads(path.read_text())
    print(f"\n{path.stem}: {found['members']} members, {found['posts']} posts, {found['pairs']} pairs, "
          f"{found['trainings']} trainings of {found['recipe']['steps']} steps\n")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in found["rows"]:
        cells = (
            row["name"],
            number(row["recall_10"], ".4f"),
            number(row["recall_10_new_members"], ".4f"),
            row["previous"] or "-",
            gap(row["difference_to_previous"]),
            share(row["relative_to_previous"]),
            share(row["published_relative"]),
            number(row["popularity_correlation"], ".3f"),
            gap(row["popularity_correlation_difference"]),
            number(row["memory_mib_per_sequence"], ".1f"),
            number(row["sequences_per_batch"], "d"),
            number(row["iteration_ms"], ".0f"),
        )
        print("| " + " | ".join(cells) + " |")
END
