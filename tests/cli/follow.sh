#!/usr/bin/env bash
# docs/branches.md, O1..O8: a branch that follows another, by commands and where it is mounted.
. "$INDRA_SOURCE/tests/cli/common.sh"

expect 0 $i init
printf 'one\n' | $i put - :/f
expect 0 $i snapshot create then
# Refused: a moment has nothing to follow, and neither has main.
expect 2 $i branch create old --follow --from-snapshot then
expect 2 $i branch create old --follow --at '1 hour ago'
expect 1 $i branch follow main
says "forked from nothing"
expect 1 $i branch follow nobody
says "there is no branch nobody"
same "$($i branch list --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" 1

expect 0 $i branch create view --follow
$i branch list | grep -q '^view .*  follows main' || die "branch list does not say it"
same "$($i branch list --json | python3 -c 'import json, sys; print([b["follows"] for b in json.load(sys.stdin) if b["name"] == "view"])')" "[True]"
printf 'two\n' | $i put - :/f
same "$($i cat view:/f)" two
same "$($i ls view:/)" f
printf 'own\n' | $i put - view:/own
printf 'mine\n' | $i put - view:/f
printf 'three\n' | $i put - :/f
printf 'new\n' | $i put - :/new
same "$($i cat view:/f)" mine
same "$($i cat view:/new)" new
same "$($i ls :/)" "$(printf 'f\nnew')"
same "$($i diff view | sed -n 's/^\([AMD]\) .*\(\/[a-z]*\).*/\1 \2/p')" "$(printf 'M /f\nA /own')"
# Merged: what both changed is kept twice, and said.
expect 1 $i merge view
grep -q '^C /f: both changed its content' out || { cat out; die "no word of it"; }
same "$($i cat :/f)" three
same "$($i cat :/own)" own
same "$($i ls view:/ | grep -c conflict)" 1 # as main has it now
same "$($i cat view:/f)" three
# Off, and on again.
expect 0 $i branch follow --off view
printf 'four\n' | $i put - :/f
same "$($i cat view:/f)" three
expect 0 $i branch follow view
same "$($i cat view:/f)" four
# Its parent's name, and end.
expect 0 $i branch create p
expect 0 $i branch create child --from p --follow
expect 0 $i branch rename p q
printf 'five\n' | $i put - q:/f
expect 0 $i branch delete q
same "$($i cat child:/f)" five
expect 0 $i fsck

# Mounted: it comes by itself, and who watches hears of it.
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 0
mkdir m v
here=$PWD
ear=
trap 'cd /; [[ -z $ear ]] || kill $ear 2>/dev/null || true; for d in m v; do fusermount3 -uz "$here/$d" 2>/dev/null || true; done' EXIT
expect 0 $i mount --layout plain m
expect 0 $i mount --layout plain --branch view v
# until COMMAND...: at last it succeeds
until_it() {
  for _ in $(seq 600); do
    "$@" && return
    sleep 0.1
  done
  die "it never came to: $*"
}
holds() { [[ $(cat "$1" 2>/dev/null) == "$2" ]]; }
same "$(cat v/f)" four
if command -v inotifywait >/dev/null; then
  inotifywait -q -m --format '%e %f' -e create v >heard 2>/dev/null &
  ear=$!
  until_it sh -c "grep -qs '^inotify .* ino:' /proc/$ear/fdinfo/*"
fi
echo six >m/f
mkdir m/dir
echo deep >m/dir/x
until_it holds v/f six
until_it holds v/dir/x deep
echo own >v/dir/own
rm m/dir/x
rmdir m/dir
until_it test ! -e v/dir/x
same "$(cat v/dir/own)" own
[[ ! -e m/dir ]] || die "the follower wrote to its parent"
if [[ -n ${ear:-} ]]; then
  until_it grep -q '^CREATE,ISDIR dir' heard
  kill $ear
fi
expect 0 $i unmount v
expect 0 $i unmount m
expect 0 $i fsck
