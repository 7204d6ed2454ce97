#!/usr/bin/env bash
# The extension in the sqlite3 shell and in Python while the daemon is at work: files are written through the mount, a rule
# makes a job of each, the vault does its own jobs; strangers write tables of their own and jobs in one transaction, with
# BEGIN IMMEDIATE, and are killed. INDRA_SECONDS: how long (3).
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
command -v sqlite3 >/dev/null || exit 77
[[ -x /usr/bin/python3 ]] || exit 77
/usr/bin/python3 -c 'import sqlite3; sqlite3.connect(":memory:").enable_load_extension(True)' 2>/dev/null || exit 77
expect 0 $i init
mkdir m
expect 0 $i mount --layout plain m
expect 0 $i queue create changed
expect 0 $i queue create load
expect 0 $i queue rule add all changed --kind create
cat >writer.py <<'P'
import os, signal, sqlite3, sys, time, multiprocessing
def work(n, seconds, errors, longest):
    db = sqlite3.connect("vault/coord.db", timeout=10, isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(sys.argv[1])
    until = time.time() + seconds
    while time.time() < until:
        begin = time.time()
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO written(who) VALUES(?)", (n,))
            db.execute("SELECT indra_enqueue('load', ?)", (str(n),)).fetchall()
            db.execute("COMMIT")
        except sqlite3.Error as e:
            errors.put(str(e))
            return
        longest.value = max(longest.value, time.time() - begin)
db = sqlite3.connect("vault/coord.db", timeout=10, isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS written(id INTEGER PRIMARY KEY, who INTEGER)")
errors = multiprocessing.Queue()
longest = [multiprocessing.Value("d", 0) for _ in range(4)]
seconds = float(sys.argv[2])
all = [multiprocessing.Process(target=work, args=(n, seconds if n else 1000, errors, longest[n])) for n in range(4)]
for p in all: p.start()
time.sleep(seconds / 2)
until = time.monotonic() + 100
while db.execute("SELECT count(*) FROM written").fetchone()[0] < 30 and errors.empty() and time.monotonic() < until:
    time.sleep(0.1)
os.kill(all[0].pid, signal.SIGKILL)  # in whatever it does
for p in all: p.join()
assert errors.empty(), errors.get()
written, = db.execute("SELECT count(*) FROM written").fetchone()
jobs, = db.execute("SELECT count(*) FROM indra_jobs WHERE queue = 'load'").fetchone()
assert written == jobs and written > 50, (written, jobs)
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
print("%d transactions, the longest took %.0f ms" % (written, 1000 * max(l.value for l in longest)))
P
seconds=${INDRA_SECONDS:-3}
end=$((SECONDS + ${seconds%.*} + 1))
(n=0; while ((SECONDS < end)); do n=$((n + 1)); echo "$n" >"m/f$n" || { echo "file $n"; break; }; done; echo $n >files) >mount.err 2>&1 &
mounting=$!
(n=0; while ((SECONDS < end)); do
  n=$((n + 1))
  sqlite3 -cmd '.timeout 10000' -cmd ".load $INDRA_BIN/indra_coord" vault/coord.db \
    "CREATE TABLE IF NOT EXISTS shell(n INTEGER PRIMARY KEY); BEGIN IMMEDIATE; INSERT INTO shell VALUES($n); SELECT indra_notify('shell', $n); COMMIT;" ||
    echo "shell $n"
done; echo $n >shells) >shell.out 2>&1 &
shelling=$!
/usr/bin/python3 writer.py "$INDRA_BIN/indra_coord" "$seconds" >written || die "Python beside the daemon"
wait $mounting $shelling
[[ ! -s mount.err ]] || { cat mount.err; die "a file on the mount"; }
! grep -qi "locked\|busy\|shell\|error" shell.out || { cat shell.out; die "the shell was refused"; }
same "$(sqlite3 vault/coord.db 'SELECT count(*) FROM shell')" "$(cat shells)"
# Each file became a job, once.
files=$(cat files)
made() { [[ $(sqlite3 vault/coord.db "SELECT made FROM indra_rules WHERE name = 'all'") == "$files" ]]; }
soon made || die "$files files, $(sqlite3 vault/coord.db "SELECT made FROM indra_rules") jobs"
same "$(sqlite3 vault/coord.db "SELECT count(DISTINCT json_extract(payload, '\$.path')) FROM indra_jobs WHERE queue = 'changed'")" "$files"
expect 0 $i unmount m
echo "$(cat written); $files files on the mount, $(cat shells) transactions of the shell"
