#!/usr/bin/env bash
# soak.sh [MINUTES [SEED]]: a mounted vault under mixed load (trees copied and removed, a git repository, databases, logs,
# saves by rename), with snapshot, fsck, scrub, gc, prune and backup at work beside it. Afterwards
#   - everything equals a mirror on the native file system, also after a remount, and fsck and scrub find nothing;
#   - the daemon's memory was flat: the median of the last quarter is at most a tenth, and 8 MiB for what the allocator
#     keeps, above that of the second one;
#   - when all is deleted, what is left of it is less than 1% of what there was.
# INDRA_SOAK_SECONDS: instead of MINUTES. Not for a machine that sleeps meanwhile.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
seconds=${INDRA_SOAK_SECONDS-$((${1:-20} * 60))} seed=${2:-$RANDOM}
echo "$seconds seconds, seed $seed"
mkdir m mirror
expect 0 $i init
trap '$i unmount --force "$PWD/m" >/dev/null 2>&1 || true' EXIT
expect 0 $i mount --layout plain "$PWD/m"
python3 "$INDRA_SOURCE/tests/crash/soak.py" "$i" "$PWD/m" "$PWD/mirror" "$seconds" "$seed"
expect 0 $i unmount "$PWD/m"
expect 0 $i fsck
