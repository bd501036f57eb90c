#!/usr/bin/env bash
# Retrieval over towns that were not used in building: one dial at a time, two seeds each.
#   runs/retrieval-sweep.sh OUT [SEED...]
# One JSON file per town in OUT, and a table of them at the end. A town that is there is not made
# again, so an interrupted sweep goes on. About four minutes a town on two quiet cores.
set -euo pipefail
out=${1:?name a folder for the results}
shift
[ $# -gt 0 ] || set -- 7101 7102
millrace=${MILLRACE:-.venv/bin/millrace}
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
      --noise "$noise" --popularity "$popularity" --seed "$seed" --json >"$file.part" </dev/null
    mv "$file.part" "$file"
  done
done <<<"$towns"

python3 - "$out" <<'END'
import json, pathlib, sys

rows = [json.loads(path.read_text()) for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json"))]
names = ("random", "newest_first", "popularity_decay", "bm25", "zero_shot", "feed", "oracle")
print("| overlap, drift, noise, popularity, seed | " + " | ".join(names) + " | to BM25 | to popularity | nDCG lead over the best baseline |")
print("|---" * (len(names) + 4) + "|")
for row in rows:
    new = [row["systems"][name]["recall_100_new_members"] for name in names]
    ratios = [row["differences"][f"zero_shot_to_{name}_recall_100_new_members"] for name in ("bm25", "popularity_decay")]
    leads = {k: v for k, v in row["differences"].items() if k.startswith("feed_minus")}
    least = min(leads.values(), key=lambda one: one["value"])
    place = " ".join(str(row[k]) for k in ("overlap", "drift", "noise", "popularity", "seed"))
    shown = [f"{x:.3f}" for x in new]
    shown += [f"{one['value']:.2f} ({one['interval'][0]:.2f} to {one['interval'][1]:.2f})" for one in (*ratios, least)]
    print(f"| {place} | " + " | ".join(shown) + " |")
END
