#!/usr/bin/env bash
# Two writable mounts of one branch: locks hold across both, and so does every write.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
$i init >/dev/null
mkdir m1 m2
expect 0 $i mount --layout plain m1
expect 1 $i mount --layout plain m2
says "--locks daemon on both mounts"
expect 1 $i mount --layout plain --locks daemon m2
says "--locks daemon on both mounts"
expect 0 $i unmount m1
expect 0 $i mount --layout plain --locks daemon m1
expect 0 $i mount --layout plain --locks daemon m2

# The first use of fresh mounts is a name made in both at once: nobody is refused for an owner that the kernel made up.
for round in $(seq 30); do
  pids=()
  for m in m1 m2 m2; do
    (: >>"$m/first$round") & pids+=($!)
  done
  for p in "${pids[@]}"; do wait "$p" || die "round $round"; done
  expect 0 $i unmount m1
  expect 0 $i unmount m2
  expect 0 $i mount --layout plain --locks daemon m1
  expect 0 $i mount --layout plain --locks daemon m2
done

# A counter, guarded by flock, from both sides: no update is lost.
echo 0 >m1/counter
count() {
  for _ in $(seq 40); do
    (
      flock 9
      n=$(<"$1/counter")
      echo $((n + 1)) >"$1/counter"
    ) 9>>"$1/guard"
  done
}
count m1 & a=$!
count m2 & b=$!
count m2 & c=$!
wait $a $b $c
same "$(cat m1/counter)" 120
same "$(cat m2/counter)" 120

# Two SQLite writers on one database, one in each mount, with rollback journals.
python3 - m1 m2 <<'P'
import multiprocessing, sqlite3, sys
def run(mount, who, n):
    db = sqlite3.connect(f"{mount}/d.db", timeout=60, isolation_level=None)
    for k in range(n):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES(?, ?)", (who, k))
        db.execute("UPDATE sum SET n = n + 1")
        db.execute("COMMIT")
db = sqlite3.connect(f"{sys.argv[1]}/d.db")
db.execute("PRAGMA journal_mode = DELETE")
db.execute("CREATE TABLE t(who, k, PRIMARY KEY(who, k))")
db.execute("CREATE TABLE sum(n)")
db.execute("INSERT INTO sum VALUES(0)")
db.commit()
db.close()
jobs = [multiprocessing.Process(target=run, args=(sys.argv[1 + w % 2], w, 40)) for w in range(4)]
for j in jobs: j.start()
for j in jobs: j.join()
assert all(j.exitcode == 0 for j in jobs), [j.exitcode for j in jobs]
for mount in sys.argv[1:]:
    db = sqlite3.connect(f"{mount}/d.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), mount
    assert db.execute("SELECT count(*) FROM t").fetchone() == (160,), mount
    assert db.execute("SELECT n FROM sum").fetchone() == (160,), mount
P

# Longer, shorter, replaced: whoever looks through the other mount sees the size that the bytes have.
python3 - m1 m2 <<'P'
import os, sys, threading
a, b = sys.argv[1:]
def put(n):
    data = bytes([n % 251]) * (1000 + 977 * (n * 7 % 13))
    with open(f"{a}/new", "wb") as f: f.write(data)
    os.rename(f"{a}/new", f"{a}/replaced")
put(0)
stop, seen = threading.Event(), [0]
wrong = []
def look():
    while not stop.is_set():
        with open(f"{b}/replaced", "rb") as f:
            size = os.fstat(f.fileno()).st_size
            data = f.read()
        if len(set(data)) != 1 or len(data) != 1000 + 977 * (data[0] * 7 % 13): wrong.append((size, len(data)))
        if len(data) != size: wrong.append((size, len(data)))
        seen[0] += 1
t = threading.Thread(target=look)
t.start()
for n in range(1, 200): put(n % 13)
stop.set(); t.join()
assert not wrong and seen[0] > 0, (wrong[:5], seen)
P
expect 0 $i unmount m2
expect 0 $i unmount m1

# Below branches/ of one mount lie the branches of others: what keeps its locks in two kernels is not written in both.
mkdir m3
$i branch create dev >/dev/null
expect 0 $i mount m1
echo kept >m1/branches/dev/f
exec 7>>m1/branches/dev/f
expect 1 $i mount --branch dev --layout plain m2
says "is written through the mount at $PWD/m1/branches"
says "--locks daemon on both mounts"
mountpoint -q m2 && die "m2 is mounted"
exec 7>&-
try_dev() { $i mount --branch dev --layout plain m2 >out 2>err; }
soon try_dev || # the file's end reaches the daemon after close(2)
  { cat err >&2; die "dev is not mounted"; }
for open in '>>m1/branches/dev/f' '>m1/branches/dev/new'; do
  (eval "echo more $open") 2>err && die "written through two kernels: $open"
  grep -q "busy" err || { cat err >&2; die "not EBUSY"; }
done
[[ ! -e m1/branches/dev/new ]] || die "a refused file was made"
same "$(cat m1/branches/dev/f)" kept
echo more >>m2/f
same "$(cat m1/branches/dev/f)" "$(printf 'kept\nmore')"
expect 0 $i unmount m2
echo again >>m1/branches/dev/f
expect 0 $i unmount m1

# With locks in the daemon both write, and one's lock holds the other off.
expect 0 $i mount --locks daemon m1
expect 0 $i mount --locks daemon --branch dev --layout plain m2
exec 7>>m1/branches/dev/f
flock 7
flock -n m2/f true && die "locked twice"
exec 7>&-
flock m2/f true
echo 0 >m2/counter
count m1/branches/dev & a=$!
count m2 & b=$!
wait $a $b
same "$(cat m2/counter)" 80
# A kernel's locks beside them: not while the daemon's mount is there.
expect 1 $i mount --branch dev m3
says "--locks daemon on both mounts"
expect 0 $i mount --branch dev --read-only m3
for m in m3 m2 m1; do expect 0 $i unmount $m; done
