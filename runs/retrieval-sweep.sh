#!/usr/bin/env bash
# Retrieval over towns that were not used in building: one dial at a time, two seeds each.
#   runs/retrieval-sweep.sh OUT [SEED...]        QUICK=1 asks small towns
# One JSON file per town in OUT, and a table of them at the end. A town that is there is not made
# again, so an interrupted sweep goes on. About four minutes a town on two quiet cores.
set -euo pipefail
out=${1:?name a folder for the results}
shift
[ $# -gt 0 ] || set -- 7101 7102
millrace=${MILLRACE:-.venv/bin/millrace}
quick=${QUICK:+--quick}
mkdir -p "$out"

# overlap drift noise popularity
towns="
0.0 0.5 0.3 0.5
0.1 0.5 0.3 0.5
0.3 0.5 0.3 0.5
0.6 0.5 0.3 0.5
0.0 0.0 0.3 0.5
0.0 1.0 0.3 0.5
0.0 0.5 0.0 0.5
0.0 0.5 0.6 0.5
0.0 0.5 0.3 0.0
0.0 0.5 0.3 1.0
"
while read -r overlap drift noise popularity; do
  [ -n "$overlap" ] || continue
  for seed in "$@"; do
    file="$out/o$overlap-d$drift-n$noise-p$popularity-s$seed.json"
    [ -s "$file" ] && continue
    echo "overlap $overlap, drift $drift, noise $noise, popularity $popularity, seed $seed" >&2
    "$millrace" evaluate retrieval --data town --overlap "$overlap" --drift "$drift" \
      --noise "$noise" --popularity "$popularity" --seed "$seed" $quick --json >"$file.part" </dev/null
    mv "$file.part" "$file"
  done
done <<<"$towns"

python3 - "$out" <<'END'
import json, pathlib, sys

rows = [json.loads(path.read_text()) for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json"))]
systems = ("random", "newest_first", "popularity_decay", "bm25", "zero_shot", "feed", "oracle")
baselines = systems[: systems.index("feed")]


def shown(one):
    if one is None:
        return "-"
    low, high = one["interval"]
    return f"{one['value']:.3f} ({low:.3f} to {high:.3f})"


def table(title, names, cells):
    print(f"\n{title}\n\n| overlap, drift, noise, popularity, seed | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for row in rows:
        place = ", ".join(str(row[k]) for k in ("overlap", "drift", "noise", "popularity", "seed"))
        print(f"| {place} | " + " | ".join(cells(row)) + " |")


for measure in ("ndcg_10", "recall_100_new_members"):
    table(measure, systems, lambda row: [f"{row['systems'][one][measure]:.3f}" for one in systems])
table(
    "The feed's lead in nDCG@10",
    baselines,
    lambda row: [shown(row["differences"][f"feed_minus_{one}_ndcg_10"]) for one in baselines],
)
table(
    "Retrieval for members without a history: recall@100 as a multiple",
    ("BM25", "decayed popularity"),
    lambda row: [
        shown(row["differences"][f"zero_shot_to_{one}_recall_100_new_members"])
        for one in ("bm25", "popularity_decay")
    ],
)
END
