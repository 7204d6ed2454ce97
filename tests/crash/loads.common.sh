# The loads that loads.sh and power.sh run on a mount, and how each is checked afterwards. What was answered is
# written beside the mount, in $logs, in lines that end in "ok".
#   start_loads DIR SEED     begins them in DIR
#   end_loads                waits until all have noticed that the filesystem is gone
#   check_loads DIR SEED     0: all that was answered is there; adds to the counts
logs=$PWD/logs
mkdir -p "$logs"
fsyncs=0 steps=0 commits=0 transactions=0 empty_rounds=0
git_at() { git -C "$1" -c user.name=load -c user.email=load@localhost -c core.fsync=all -c core.fsyncMethod=fsync -c gc.auto=0 "${@:2}"; }

# A commit counts when the directory that names it is synced too: git leaves that to the filesystem.
git_load() {
  local repo=$1 n=0
  git init -q -b main "$repo" || return 0  # again: the first may have been cut
  rm -f "$repo"/.git/*.lock "$repo"/.git/refs/heads/*.lock || return 0
  while ((++n)); do
    head -c $((RANDOM % 30000 + 1)) /dev/urandom >"$repo/f$((n % 20))" || return 0
    git_at "$repo" add -A && git_at "$repo" commit -q -m "$n" || return 0
    local head
    head=$(git_at "$repo" rev-parse HEAD) && sync "$repo/.git/refs/heads" "$repo/.git/refs/heads/main" "$repo/.git" "$repo" || return 0
    echo "$head ok" >>"$logs/commits"
  done
}
check_git() {
  local repo=$1 last
  [[ -s $logs/commits ]] || return 0
  rm -f "$repo"/.git/*.lock "$repo"/.git/refs/heads/*.lock
  git_at "$repo" fsck --full --no-dangling >"$logs/git" 2>&1 || { cat "$logs/git"; return 1; }
  last=$(tail -n 1 "$logs/commits")
  last=${last% ok}
  git_at "$repo" merge-base --is-ancestor "$last" HEAD || { echo "commit $last is lost"; return 1; }
  commits=$((commits + $(wc -l <"$logs/commits")))
  : >"$logs/commits"
}

sqlite_load() {  # DATABASE MODE
  python3 - "$1" "$2" "$logs/rows" <<'PYTHON' || return 0
import os, sqlite3, sys
path, mode, log = sys.argv[1:]
try:
    db = sqlite3.connect(path, isolation_level=None, timeout=60)
    db.execute("PRAGMA journal_mode=" + mode)
    db.execute("PRAGMA synchronous=EXTRA")  # a journal's removal is synced too
    db.execute("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, v)")
    n = db.execute("SELECT coalesce(max(n), 0) FROM t").fetchone()[0]
    while True:
        n += 1
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES(?, randomblob(?))", (n, n * 7919 % 6000))
        if n > 200: db.execute("DELETE FROM t WHERE n = ?", (n - 200,))
        db.execute("COMMIT")
        # SQLite takes a directory that it cannot open, as in a filesystem that is gone, for one that it has synced.
        os.close(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY))
        with open(log, "a") as f: f.write("%d ok\n" % n)
except (sqlite3.Error, OSError):
    pass
PYTHON
}
check_sqlite() {
  [[ -s $logs/rows ]] || return 0
  local last
  last=$(tail -n 1 "$logs/rows")
  python3 - "$1" "${last% ok}" <<'PYTHON' || return 1
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60)
ok = db.execute("PRAGMA integrity_check").fetchone()[0]
top = db.execute("SELECT max(n) FROM t").fetchone()[0]
if ok != "ok" or top is None or top < int(sys.argv[2]):
    sys.exit("sqlite: %s, row %s is the last, %s was acknowledged" % (ok, top, sys.argv[2]))
PYTHON
  transactions=$((transactions + $(wc -l <"$logs/rows")))
  : >"$logs/rows"
}

pids=()
start_loads() {
  local dir=$1 seed=$2 mode=WAL
  ((seed % 2)) || mode=DELETE
  rm -f "$logs/fsx" "$logs/history"
  "$INDRA_BIN/indra_loads" run "$dir/fsx" "$seed" "$logs/fsx" & pids=($!)
  "$INDRA_BIN/indra_history" run "$dir/stress" "$seed" "$logs/history" & pids+=($!)
  { git_load "$dir/repo"; } >/dev/null 2>&1 & pids+=($!)
  { sqlite_load "$dir/base-$mode" "$mode"; } >/dev/null 2>&1 & pids+=($!)
}
start_cut_loads() {  # as above, but for what can only be checked at its end
  local dir=$1 seed=$2 mode=WAL n
  ((seed % 2)) || mode=DELETE
  pids=()
  for n in 1 2; do "$INDRA_BIN/indra_loads" run "$dir/fsx$n" "$seed$n" "$logs/fsx$n" & pids+=($!); done
  { git_load "$dir/repo"; } >/dev/null 2>&1 & pids+=($!)
  { sqlite_load "$dir/base-$mode" "$mode"; } >/dev/null 2>&1 & pids+=($!)
}
end_loads() {  # a load that hangs or meets another error than a dead filesystem is a failure
  local p
  for p in "${pids[@]}"; do
    timeout 120 tail -s 0.1 --pid="$p" -f /dev/null || { echo "a load hangs"; return 1; }
    wait "$p" || { echo "a load ended with status $?"; return 1; }
  done
  pids=()
}
check_loads() {
  local dir=$1 seed=$2 mode=WAL before=$((fsyncs + steps + commits + transactions))
  ((seed % 2)) || mode=DELETE
  "$INDRA_BIN/indra_loads" check "$dir/fsx" "$seed" "$logs/fsx" >"$logs/fsx.out" || return 1
  "$INDRA_BIN/indra_history" check "$dir/stress" "$seed" "$logs/history" >"$logs/history.out" || return 1
  local n
  read -r n _ <"$logs/fsx.out" && fsyncs=$((fsyncs + n))
  n=$(sed -n 's/^[0-9]* steps, \([0-9]*\) sure.*/\1/p' "$logs/history.out") && steps=$((steps + ${n:-0}))
  check_git "$dir/repo" && check_sqlite "$dir/base-$mode" || return 1
  ((fsyncs + steps + commits + transactions > before)) || empty_rounds=$((empty_rounds + 1))
  rm -rf "$dir/fsx" "$dir/stress"
}
counts() { echo "$fsyncs fsyncs of random writes, $steps steps that an fsync answered for, $commits commits, $transactions transactions; none lost; $empty_rounds rounds in which nothing was answered"; }
