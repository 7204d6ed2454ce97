#!/usr/bin/env bash
# SQLite in WAL and in DELETE mode under load, forked meanwhile (docs/branches.md, B6). INDRA_FORKS=1000 for more.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
expect 0 $i init
mkdir m
trap 'fusermount3 -uz "$PWD/m" 2>/dev/null || true' EXIT
expect 0 $i mount "$PWD/m"
for mode in wal delete; do
  timeout 3000 python3 "$INDRA_SOURCE/tests/mount/database_forks.py" "$i" "$PWD/m" "$mode" "${INDRA_FORKS:-20}"
done
expect 0 $i unmount "$PWD/m"
expect 0 $i fsck
