# The loads of soak.sh, and what is judged of them: see there.
import filecmp
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import threading
import time

indrafs, mount, mirror, seconds, seed = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5])
end = time.monotonic() + seconds
failures = []
counts = {}
env = dict(os.environ, GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="soak", GIT_AUTHOR_EMAIL="s@o", GIT_COMMITTER_NAME="soak",
           GIT_COMMITTER_EMAIL="s@o", GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="gc.auto", GIT_CONFIG_VALUE_0="0")


def run(*command, ok=(0,), cwd=None):
    r = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=cwd, env=env)
    if r.returncode not in ok:
        raise RuntimeError(f"{' '.join(command)}: status {r.returncode}\n{r.stdout[-2000:]}{r.stderr[-2000:]}")
    return r.stdout


def verb(*words, ok=(0,)):
    return run(indrafs, *words, ok=ok)


def stats():
    return json.loads(verb("stats", "--json"))


def count(what):
    counts[what] = counts.get(what, 0) + 1


def both(path):
    return os.path.join(mount, path), os.path.join(mirror, path)


def put(path, data, mode="wb", fsync=False):
    for p in both(path):
        with open(p, mode) as f:
            f.write(data)
            if fsync and p.startswith(mount):
                f.flush()
                os.fsync(f.fileno())


def trees(rng):
    """A tree is made, copied inside, changed, moved; the oldest goes."""
    alive = []
    n = 0
    while time.monotonic() < end:
        name = f"tree{n}"
        n += 1
        for p in both(name):
            os.mkdir(p)
        for d in range(6):
            for p in both(f"{name}/d{d}"):
                os.mkdir(p)
            for k in range(12):
                size = rng.choice([0, 10, 700, 1500, 3900, 5000, 20000, 70000])
                put(f"{name}/d{d}/f{k}", rng.randbytes(size))
        for p in both(name):
            run("cp", "-a", p, p + ".copy")
        for k in range(8):
            put(f"{name}.copy/d{k % 6}/f{k}", rng.randbytes(rng.randrange(90000)), "ab" if k % 2 else "wb")
        for p in both(name):
            os.rename(p + "/d1", p + ".copy/moved")
            os.link(p + "/d2/f1", p + "/linked")
            os.symlink("d2/f1", p + "/symlink")
            os.unlink(p + "/d3/f3")
            os.truncate(p + "/d4/f7", 12345)
        alive += [name, name + ".copy"]
        count("trees")
        while len(alive) > 6:
            gone = alive.pop(rng.randrange(3))
            for p in both(gone):
                shutil.rmtree(p)


def git(rng):
    """Commits in the mount; the working tree beside it, and `git fsck` at the end of each round."""
    n = 0
    while time.monotonic() < end:
        name = f"repo{n % 2}"
        for p in both(name):
            shutil.rmtree(p, ignore_errors=True)
            os.mkdir(p)
        inside = os.path.join(mount, name)
        run("git", "init", "-q", "-b", "main", inside)
        with open(os.path.join(inside, ".git/info/exclude"), "w") as f:
            f.write("")
        for c in range(12):
            if time.monotonic() > end and c > 0:
                break
            for k in range(10):
                put(f"{name}/file{rng.randrange(60)}", rng.randbytes(rng.randrange(6000)).hex().encode())
            run("git", "add", "-A", cwd=inside)
            run("git", "commit", "-q", "-m", f"commit {c}", "--allow-empty", cwd=inside)
            count("commits")
        if n % 3 == 2:
            run("git", "gc", "-q", cwd=inside)
        run("git", "fsck", "--strict", cwd=inside)
        if run("git", "status", "--porcelain", cwd=inside):
            raise RuntimeError("git status is not clean")
        n += 1


def database(rng, journal):
    """The same transactions on a database in the mount and on one beside it."""
    paths = both(f"{journal}.db")
    dbs = [sqlite3.connect(p, isolation_level=None, timeout=60) for p in paths]
    for db in dbs:
        db.execute(f"PRAGMA journal_mode={journal}")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a BLOB, b INTEGER)")
    dbs[1].execute("PRAGMA synchronous=OFF")
    while time.monotonic() < end:
        what = []
        for _ in range(rng.randrange(1, 20)):
            row = rng.randrange(3000)
            if rng.random() < 0.2:
                what.append(("DELETE FROM t WHERE id = ?", (row,)))
            else:
                what.append(("INSERT OR REPLACE INTO t VALUES(?, ?, ?)",
                             (row, rng.randbytes(rng.randrange(2000)), rng.randrange(10**9))))
        for db in dbs:
            db.execute("BEGIN IMMEDIATE")
            for sql, values in what:
                db.execute(sql, values)
            db.execute("COMMIT")
        count("transactions")
        time.sleep(0.01)
    for db in dbs:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], journal
    rows = [db.execute("SELECT * FROM t ORDER BY id").fetchall() for db in dbs]
    assert rows[0] == rows[1], f"the {journal} database differs"
    for db in dbs:
        db.close()
    for p in paths:  # other bytes, the same rows
        for e in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(p + e):
                os.unlink(p + e)


def logs(rng):
    """Files that grow, some of them synced; cut when they are long."""
    files = [[open(p, "ab", buffering=0) for p in both(f"log{k}")] for k in range(4)]
    while time.monotonic() < end:
        k = rng.randrange(4)
        line = rng.randbytes(rng.randrange(1, 3000))
        for f in files[k]:
            f.write(line)
        if rng.random() < 0.1:
            os.fsync(files[k][0].fileno())
        if rng.random() < 0.001:
            length = rng.randrange(100000)
            for f in files[k]:
                f.truncate(length)
        count("appends")
        time.sleep(0.005)
    for pair in files:
        for f in pair:
            f.close()


def saves(rng):
    """As editors and rsync save: written beside, renamed over; and a large file changed in place."""
    large = rng.randbytes(8 << 20)
    put("large", large)
    while time.monotonic() < end:
        name = f"note{rng.randrange(40)}"
        data = rng.randbytes(rng.choice([100, 3000, 30000, 300000]))
        put(name + ".tmp", data, fsync=rng.random() < 0.3)
        for p in both(name):
            os.rename(p + ".tmp", p)
        at = rng.randrange(len(large) - 5000)
        block = rng.randbytes(rng.randrange(1, 5000))
        for p in both("large"):
            fd = os.open(p, os.O_WRONLY)
            os.pwrite(fd, block, at)
            if p.startswith(mount) and rng.random() < 0.3:
                os.fsync(fd)
            os.close(fd)
        count("saves")
        time.sleep(0.01)


def caretaker(rng):
    """What keeps a vault in order, one after the other, all the time."""
    has_backup = any(line.split()[:1] == ["backup"] for line in verb("--help").splitlines())
    n = 0
    while time.monotonic() < end:
        verb("snapshot", "create", f"s{n}")
        if n >= 3:
            verb("snapshot", "delete", f"s{n - 3}")
        verb("scrub", "--rate", "200", "--again")
        out = json.loads(verb("fsck", "--json", ok=(0, 1)))
        if not out["clean"]:
            raise RuntimeError(f"fsck beside the load: {out}")
        verb("prune", "--older", "20s" if n % 3 else "0")
        if n % 2:
            verb("gc", "--wait")
        else:
            verb("gc")
        s = stats()
        if s["damage"] or s["reclaim"].get("unreadable") or s["failed"]:
            raise RuntimeError(f"damage: {s}")
        peak[0] = max(peak[0], s["space"]["content"])
        if has_backup and n % 2 == 0:
            verb("backup", os.path.join(os.path.dirname(mount), "backup"))
            count("backups")
        n += 1
        count("rounds")
        time.sleep(0.2)
    for k in range(max(0, n - 3), n):
        verb("snapshot", "delete", f"s{k}")


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def watcher(rng):
    began = time.monotonic()
    while time.monotonic() < end:
        memory.append(((time.monotonic() - began) / seconds, rss(daemon)))
        time.sleep(min(1.0, seconds / 100))


def guarded(load, rng, *more):
    def go():
        try:
            load(rng, *more)
        except BaseException as e:  # noqa: B902: told at the end
            failures.append(f"{load.__name__}: {e!r}")
    return threading.Thread(target=go, name=load.__name__)


def compare(a, b):
    """Names, types, sizes, bytes and link targets."""
    for (dir_a, dirs_a, files_a), (dir_b, dirs_b, files_b) in zip(sorted_walk(a), sorted_walk(b), strict=True):
        if (sorted(dirs_a), sorted(files_a)) != (sorted(dirs_b), sorted(files_b)):
            raise SystemExit(f"FAILED: {dir_a} and {dir_b} list other names")
        for f in files_a:
            p, q = os.path.join(dir_a, f), os.path.join(dir_b, f)
            if os.path.islink(p) or os.path.islink(q):
                same = os.readlink(p) == os.readlink(q)
            else:
                same = filecmp.cmp(p, q, shallow=False)
            if not same:
                raise SystemExit(f"FAILED: {p} and {q} differ")


def sorted_walk(top):
    for d, dirs, files in os.walk(top):
        dirs.sort()
        if ".git" in dirs:
            dirs.remove(".git")
        yield d, dirs, files


peak, memory = [0], []
daemon = json.loads(verb("status", "--json"))["daemon"]
verb("gc", "--wait")
empty = stats()["space"]["content"]
rngs = [random.Random(seed * 100 + k) for k in range(8)]
threads = [guarded(trees, rngs[0]), guarded(git, rngs[1]), guarded(database, rngs[2], "wal"),
           guarded(database, rngs[3], "delete"), guarded(logs, rngs[4]), guarded(saves, rngs[5]),
           guarded(caretaker, rngs[6]), guarded(watcher, rngs[7])]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
if failures:
    raise SystemExit("FAILED: " + "\nFAILED: ".join(failures))


def median(first, last):
    """KiB in that part of the time."""
    return statistics.median([kib for at, kib in memory if first <= at < last] or [0])


second, last = median(0.25, 0.5), median(0.75, 2)
print(f"memory: {second / 1024:.1f} MiB in the second quarter, {last / 1024:.1f} in the last, "
      f"{max(kib for _, kib in memory) / 1024:.1f} at most")
compare(mount, mirror)
verb("unmount", mount)
verb("mount", "--layout", "plain", mount)
compare(mount, mirror)
scrubbed = json.loads(verb("scrub", "--wait", "--rate", "0", "--again", "--json"))
if not scrubbed["clean"]:
    raise SystemExit(f"FAILED: scrub: {scrubbed}")
print("equal to the mirror, also after a remount; scrub found nothing")

# Shorter than this, caches are still being filled.
if seconds >= 300 and last > second * 1.1 + 8 * 1024:
    raise SystemExit("FAILED: the daemon's memory grows")

before = peak[0]
for name in os.listdir(mount):
    p = os.path.join(mount, name)
    shutil.rmtree(p) if os.path.isdir(p) and not os.path.islink(p) else os.unlink(p)
verb("prune", "--older", "0", "--wait")
verb("gc", "--wait")
s = stats()
left = s["space"]["content"] - empty
print(f"after deletion {left} bytes more than empty, of {before} at most; vault.db {s['space']['database']}")
if left > before / 100:
    raise SystemExit(f"FAILED: the space is not given back: {s}")
