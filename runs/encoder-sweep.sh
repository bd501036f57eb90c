#!/usr/bin/env bash
# A trained encoder beside the five sources and the untrained one, on data that was not used in
# building: towns one dial at a time, and logs by time. For each: examples of what lies before the
# first question, a training on them, and the question.
#   runs/encoder-sweep.sh OUT [SEED...]          QUICK=1: small towns and four steps, to see that it runs
#   DESKDROP=DIR QUANTUM=DIR                     logs to ask, too: folders that can be imported
#   TOWNS="0.3 0.5 0.3"                          overlap, drift and noise of each, one a line
#   TRAIN="--steps 400 --batch 64"               options of `millrace train encoder`
# Every step whose result is in OUT is left out, and a training that was killed goes on, so an
# interrupted sweep goes on where it was. A town takes about fifteen minutes of one quiet core, of
# which the training is ten. Chosen on other seeds: nothing here may be used to choose anything.
set -euo pipefail
out=${1:?name a folder for the results}
shift
[ $# -gt 0 ] || set -- 7101 7102
millrace=${MILLRACE:-.venv/bin/millrace}
read -r -a train <<<"${TRAIN:-}"
quick=()
if [ -n "${QUICK:-}" ]; then
  quick=(--quick --members 120 --posts 400)
  [ ${#train[@]} -gt 0 ] || train=(--steps 4 --batch 8)
fi
mkdir -p "$out"

# Asks one data set: a name, then the options that say which one.
ask() {
  local name=$1 place="$out/$1"
  shift
  [ -s "$out/$name.json" ] && return
  mkdir -p "$place"
  echo "$name" >&2
  if [ ! -s "$place/examples.json" ]; then
    "$millrace" evaluate examples "$place/examples" "$@" --json >"$place/examples.part" </dev/null
    mv "$place/examples.part" "$place/examples.json"
  fi
  if [ ! -s "$place/trained.json" ]; then
    # With nothing there --resume begins; with other options than it began with it is refused.
    "$millrace" train encoder "$place/examples" --to "$place/encoder" "${train[@]}" --resume --json \
      >"$place/trained.part" </dev/null
    mv "$place/trained.part" "$place/trained.json"
  fi
  "$millrace" evaluate five-sources "$@" --model "$place/encoder/best" --json \
    >"$place/found.part" </dev/null
  mv "$place/found.part" "$out/$name.json"
}

# overlap drift noise
towns=${TOWNS:-"
0.0 0.1 0.3
0.0 0.5 0.3
0.3 0.1 0.3
0.3 0.5 0.3
0.6 0.5 0.3
0.3 0.5 0.0
0.3 0.5 0.6
"}
[ -n "${DESKDROP:-}" ] && ask deskdrop --data "$DESKDROP" ${QUICK:+--quick}
[ -n "${QUANTUM:-}" ] && ask quantum --data "$QUANTUM" ${QUICK:+--quick}
while read -r overlap drift noise; do
  [ -n "$overlap" ] || continue
  for seed in "$@"; do
    ask "o$overlap-d$drift-n$noise-s$seed" --data town --overlap "$overlap" --drift "$drift" \
      --noise "$noise" --seed "$seed" "${quick[@]}"
  done
done <<<"$towns"

python3 - "$out" <<'END'
import json, pathlib, sys

rows = [json.loads(path.read_text()) for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json"))]
systems = [name for name in rows[0]["systems"] if any(row["systems"].get(name) for row in rows)]


def place(row):
    if row["data"] != "town":
        return row["data"]
    return ", ".join(str(row[k]) for k in ("overlap", "drift", "noise")) + f"; {row['seed']}"


def figure(row, name, measure):
    value = (row["systems"].get(name) or {}).get(measure)
    return "-" if value is None else f"{value:.3f}"


def lead(row, name):
    one = row["differences"].get(name)
    if one is None:
        return "-"
    low, high = one["interval"]
    return f"{one['value']:.3f} ({low:.3f} to {high:.3f})"


for measure in list(rows[0]["systems"]["union"]):
    unions = [f"trained_minus_{one}" for one in ("union", "union_tuned", "union_pooled")]
    others = [*unions, "trained_to_zero_shot", "trained_to_zero_shot_pooled"]
    print(f"\n{measure}\n\n| data | " + " | ".join([*systems, *others]) + " |")
    print("|---" * (len(systems) + len(others) + 1) + "|")
    for row in rows:
        cells = [place(row), *(figure(row, name, measure) for name in systems)]
        cells += [lead(row, f"{name}_{measure}") for name in others]
        print("| " + " | ".join(cells) + " |")
END
