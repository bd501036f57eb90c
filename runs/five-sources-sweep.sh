#!/usr/bin/env bash
# One encoder beside the five sources, over towns that were not used in building: one dial at a time.
#   runs/five-sources-sweep.sh OUT [SEED...]     QUICK=1 asks small towns; MODEL=DIR names an encoder
# One JSON file per town in OUT, and a table of them at the end. A town that is there is not made
# again, so an interrupted sweep goes on. About two minutes a town on one quiet core.
set -euo pipefail
out=${1:?name a folder for the results}
shift
[ $# -gt 0 ] || set -- 7101 7102
millrace=${MILLRACE:-.venv/bin/millrace}
options=(${QUICK:+--quick} ${MODEL:+--model "$MODEL"})
mkdir -p "$out"

# overlap drift noise
towns="
0.0 0.5 0.3
0.3 0.5 0.3
0.6 0.5 0.3
0.3 0.0 0.3
0.3 1.0 0.3
0.3 0.5 0.0
0.3 0.5 0.6
"
while read -r overlap drift noise; do
  [ -n "$overlap" ] || continue
  for seed in "$@"; do
    file="$out/o$overlap-d$drift-n$noise-s$seed.json"
    [ -s "$file" ] && continue
    echo "overlap $overlap, drift $drift, noise $noise, seed $seed" >&2
    "$millrace" evaluate five-sources --data town --overlap "$overlap" --drift "$drift" \
      --noise "$noise" --seed "$seed" "${options[@]}" --json >"$file.part" </dev/null
    mv "$file.part" "$file"
  done
done <<<"$towns"

python3 - "$out" <<'END'
import json, pathlib, sys

UNIONS = ("union", "union_tuned", "union_pooled")
rows = [json.loads(path.read_text()) for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json"))]
ours = "trained" if all(row["systems"]["trained"] for row in rows) else "zero_shot_pooled"
systems = [name for name in rows[0]["systems"] if rows[0]["systems"][name]]
for measure in list(rows[0]["systems"]["union"]):
    leads = [f"{ours}_minus_{one}_{measure}" for one in UNIONS]
    names = [*systems, *(name.removesuffix("_" + measure) for name in leads)]
    print(f"\n{measure}\n\n| overlap, drift, noise; seed | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for row in rows:
        cells = [", ".join(str(row[k]) for k in ("overlap", "drift", "noise")) + f"; {row['seed']}"]
        cells += [f"{row['systems'][name][measure]:.3f}" for name in systems]
        for name in leads:
            low, high = row["differences"][name]["interval"]
            cells.append(f"{row['differences'][name]['value']:+.3f} ({low:+.3f} to {high:+.3f})")
        print("| " + " | ".join(cells) + " |")
END
