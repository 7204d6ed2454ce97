#!/usr/bin/env bash
# 64 processes at once, in one mount and then in two of the same branch: no update is lost, the tree is sound, and a
# remount shows the same. A directory is listed while it is being emptied: what stays is listed once.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
ulimit -n 4096
expect 0 $i init
mkdir m m2
expect 0 $i mount --layout plain --locks daemon m
mkdir m/one m/two m/many
timeout 250 python3 "$INDRA_SOURCE/tests/mount/crowd.py" 64 m/one || die "64 processes in one mount"
expect 0 $i mount --layout plain --locks daemon m2
timeout 250 python3 "$INDRA_SOURCE/tests/mount/crowd.py" 64 m/two m2/two || die "64 processes in two mounts"

python3 - m/many <<'P'
import os, sys
top, n = sys.argv[1], 20000
for k in range(n): open(f"{top}/{k}", "w").close()
if os.fork() == 0:
    for k in range(0, n, 2): os.unlink(f"{top}/{k}")
    os._exit(0)
for turn in range(5):
    seen = [int(name) for name in os.listdir(top)]
    assert len(seen) == len(set(seen)), "a name twice"
    assert {k for k in seen if k % 2} == set(range(1, n, 2)), "a name that stays was skipped"
assert os.wait()[1] == 0
assert len(os.listdir(top)) == n // 2
P
expect 0 $i unmount m2
"$INDRA_SOURCE/tests/mount/record.sh" m >before
expect 0 $i unmount m
expect 0 $i mount --layout plain m
"$INDRA_SOURCE/tests/mount/record.sh" m >after
diff before after || die "the remounted vault differs"
expect 0 $i unmount m
