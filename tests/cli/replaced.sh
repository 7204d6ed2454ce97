#!/usr/bin/env bash
# A program goes on writing to a file that put, or a rename, has replaced: what it writes is the version before.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
expect 0 $i init
mkdir m
expect 0 $i mount --layout plain m
trap 'fusermount3 -uz m 2>/dev/null || umount -l m 2>/dev/null || true' EXIT
moment() { $i log "$1" | sed -n 's/^\(seq:[0-9]*\).*/\1/p' | head -n 1; } # the one before the last

echo old >m/f
exec 3<>m/f
printf new | $i put - :/f
printf 'written late' >&3
exec 3>&-
same "$(cat m/f)" new
same "$($i cat --at "$(moment :/f)" :/f)" 'written late'
$i watch --from 0 --once --json | tail -n 1 | grep -q '"op":"write","path":"/f"' || die "$($i watch --from 0 --once)"
[[ $(ls -A m) == f ]] || die "more than one name: $(ls -A m)"

echo other >m/g
exec 3>>m/f
mv m/g m/f
printf ' and appended' >&3
exec 3>&-
same "$(cat m/f)" other
same "$($i cat --at "$(moment :/f)" :/f)" 'new and appended'
expect 0 $i unmount m
expect 0 $i mount --layout plain m
same "$($i cat --at "$(moment :/f)" :/f)" 'new and appended'
same "$(cat m/f)" other
expect 0 $i unmount m
