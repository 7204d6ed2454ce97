"""crowd.py PROCESSES DIR...: many processes write, rename and delete in the same directories, seen through each DIR in turn,
each sure of what must be there of its own work; then a walk finds exactly that, and a sound tree. Prints the faults; status 1."""
import fcntl, os, pickle, random, sys

PROCESSES, TOPS = int(sys.argv[1]), sys.argv[2:]
SHARED = [f"shared{n}" for n in range(4)]
ROUNDS = 60


class Worker:
    def __init__(self, me):
        self.me, self.top, self.random = me, TOPS[me % len(TOPS)], random.Random(me)
        self.files = {}  # name -> bytes, of those that are mine
        self.lines = self.counted = 0

    def save(self, k):
        """A new file through a temporary name, as programs save."""
        name = f"{self.random.choice(SHARED)}/p{self.me}-{k}"
        data = self.random.randbytes(self.random.choice((10, 5000, 70000)))
        temporary = f"{self.top}/{os.path.dirname(name)}/.t{self.me}"
        with open(temporary, "wb") as f:
            f.write(data)
            if k % 8 == 0: os.fsync(f.fileno())
        os.rename(temporary, f"{self.top}/{name}")
        self.files[name] = data

    def move(self, k):
        """To a new name, or over another file of mine."""
        a = self.any()
        b = self.random.choice([f"{self.random.choice(SHARED)}/m{self.me}-{k}", *self.files])
        if a == b: return
        os.rename(f"{self.top}/{a}", f"{self.top}/{b}")
        self.files[b] = self.files.pop(a)

    def delete(self, k):
        a = self.any()
        os.unlink(f"{self.top}/{a}")
        del self.files[a]

    def lengthen(self, k):
        a = self.any()
        with open(f"{self.top}/{a}", "ab") as f: f.write(b"more")
        self.files[a] += b"more"

    def move_directory(self, k):
        a, b = (f"{self.random.choice(SHARED)}/{how}{self.me}-{k}" for how in "de")
        os.mkdir(f"{self.top}/{a}")
        with open(f"{self.top}/{a}/in", "w") as f: f.write(a)
        os.rename(f"{self.top}/{a}", f"{self.top}/{b}")
        self.files[f"{b}/in"] = a.encode()

    def log(self, k):
        """O_APPEND in one file of all."""
        with open(f"{self.top}/log", "ab", buffering=0) as f: f.write(b"%d\n" % self.me)
        self.lines += 1

    def count(self, k):
        with open(f"{self.top}/counter", "r+") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            n = int(f.read())
            f.seek(0)
            f.write(str(n + 1))
        self.counted += 1

    def any(self):
        return self.random.choice(list(self.files))

    def run(self):
        for k in range(ROUNDS):
            act = self.save if not self.files else self.random.choice(
                (self.save, self.save, self.move, self.delete, self.lengthen, self.move_directory, self.log, self.count))
            act(k)


def main():
    for d in SHARED: os.mkdir(f"{TOPS[0]}/{d}")
    with open(f"{TOPS[0]}/counter", "w") as f: f.write("0")
    open(f"{TOPS[0]}/log", "w").close()
    pids = {}
    for me in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                w = Worker(me)
                w.run()
                with open(f"report{me}", "wb") as f: pickle.dump((w.files, w.lines, w.counted), f)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        pids[pid] = me
    faults = []
    for _ in range(PROCESSES):
        pid, status = os.wait()
        if status: faults.append(f"process {pids[pid]} ended with status {status}")
    if not faults:
        reports = [pickle.load(open(f"report{me}", "rb")) for me in range(PROCESSES)]
        for top in TOPS: faults += walk(top, reports)
    for fault in faults[:20]: print(fault)
    return 1 if faults else 0


def walk(top, reports):
    want = {name: data for files, _, _ in reports for name, data in files.items()}
    with open(f"{top}/counter") as f:
        if (n := int(f.read())) != sum(r[2] for r in reports): yield f"the counter is {n}"
    with open(f"{top}/log") as f:
        lines = [int(line) for line in f]
    for me, (_, n, _) in enumerate(reports):
        if lines.count(me) != n: yield f"{lines.count(me)} lines of process {me}, not {n}"
    found = {}
    for d, subdirs, files in os.walk(top):
        names = os.listdir(d)
        if len(names) != len(set(names)): yield f"{d}: names listed twice"
        if os.stat(d).st_nlink != 2 + len(subdirs): yield f"{d}: {os.stat(d).st_nlink} links"
        for name in files:
            path = f"{d}/{name}"
            if os.stat(path).st_nlink != 1: yield f"{path}: {os.stat(path).st_nlink} links"
            if d != top:
                with open(path, "rb") as f: found[os.path.relpath(path, top)] = f.read()
    for p in want.keys() - found.keys(): yield f"{p} is missing"
    for p in found.keys() - want.keys(): yield f"{p} is nobody's"
    for p in want.keys() & found.keys():
        if want[p] != found[p]: yield f"{p}: other bytes"


sys.exit(main())
