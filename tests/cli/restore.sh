#!/usr/bin/env bash
# docs/branches.md, U1..U5: going back, and bringing back, through the command and a mount.
. "$INDRA_SOURCE/tests/cli/common.sh"
json() { python3 -c "import json, sys; rows = json.load(sys.stdin); $1"; }

expect 0 $i init
mkdir -p src/d/deep
echo one >src/d/a
echo stays >src/d/deep/b
expect 0 $i import src/d :/d
expect 0 $i snapshot create first
echo two | $i put - :/d/a
echo new | $i put - :/d/new
expect 0 $i mv :/d/deep :/d/moved
expect 0 $i snapshot create second

# A directory in place: exactly as it was, and what was there is kept (U1, U2).
expect 0 $i restore :/d --snapshot first --dry-run
cat >want <<'W'
M    /d/a
D    /d/new
R    /d/deep
W
diff want out || die "dry run"
same "$($i cat :/d/a)" two
expect 0 $i restore :/d --snapshot first
diff want out || die "restore"
before=$(sed -n 's/.*--at seq:\([0-9]*\)$/\1/p' err)
expect 0 $i export :/d back
diff -r src/d back || die "not as it was"
same "$($i cat --at "seq:$before" :/d/a 2>/dev/null)" two
same "$($i cat --at "seq:$before" :/d/new 2>/dev/null)" new
expect 0 $i restore :/d --at "seq:$before"
expect 0 $i diff second main
same "$(cat out)" ""
expect 0 $i restore :/d --snapshot second
grep -q 'so already' err || die "no word of nothing to do"
# Beside; of one file; by time.
expect 0 $i restore :/d/a --snapshot first --to :/d/a-then
same "$($i cat :/d/a-then)" one
same "$($i cat :/d/a)" two
expect 1 $i restore :/d/a --snapshot first --to :/d/a-then
expect 0 $i restore :/d/a --at now
$i restore :/d/a --snapshot first --json | json 'assert [s["kind"] for s in rows["steps"]] == ["change"] and rows["before"] > 0, rows'
expect 0 $i log :/d/a
[[ $(wc -l <out) == 5 ]] || { cat out; die "not each restore is a version of its own"; }
# In another branch.
expect 0 $i branch create agent
expect 0 $i restore agent:/d --snapshot second
same "$($i cat agent:/d/a)" two
same "$($i cat :/d/a)" one

# What is refused, and then nothing changes (U3).
expect 2 $i restore :/d
expect 2 $i restore :/d --at now --snapshot first
expect 1 $i restore :/d --snapshot nobody
says "there is no snapshot nobody"
expect 1 $i restore :/nothing --snapshot first
says "was not there then"
expect 1 $i restore :/d --at '52 weeks ago'
expect 1 $i restore nobody:/d --snapshot first
expect 2 $i restore :/d --snapshot first --to agent:/d2
expect 0 $i branch protect agent
expect 1 $i restore agent:/d --snapshot first
says "is protected"

# Deleted and brought back (U4, U5).
expect 0 $i undelete
grep -q ' /d/new$' out && die "what is there is listed"
expect 0 $i snapshot create third
expect 0 $i rm -r :/d
expect 0 $i undelete
[[ $(wc -l <out) == 1 ]] && grep -q 'indrafs *[ ]/d/$' out || { cat out; die "the list"; }
$i undelete --json | json 'assert rows[0]["path"] == "/d" and rows[0]["number"] > 0, rows'
expect 0 $i undelete :/d --dry-run
expect 1 $i cat :/d/a
expect 0 $i undelete :/d
expect 0 $i diff third main
same "$(cat out)" ""
expect 1 $i undelete :/never
says "indrafs undelete"
expect 0 $i rm :/d/new
number=$($i undelete :/d --json | json 'print([r["number"] for r in rows if r["path"] == "/d/new"][0])')
expect 0 $i undelete --number "$number" --to :/again
same "$($i cat :/again)" new
expect 1 $i undelete --number 999999

# A mount sees it at once; who has a file open keeps what he has.
[[ -e /dev/fuse ]] || exit 0
mkdir m
trap 'fusermount3 -uz "$PWD/m" 2>/dev/null || true' EXIT
expect 0 $i mount "$PWD/m"
printf 'first draft\n' >m/vault/letter
expect 0 $i snapshot create draft
printf 'second draft\n' >m/vault/letter
cat m/vault/letter m/vault/d/a >/dev/null
ls m/vault/d >/dev/null
exec 7<m/vault/letter
printf 'and more\n' >>m/vault/letter
expect 0 $i restore "$PWD/m/vault/letter" --snapshot draft
same "$(cat m/vault/letter)" "first draft"
same "$(cat <&7)" "second draft
and more"
exec 7<&-
before=$(sed -n 's/.*--at seq:\([0-9]*\)$/\1/p' err)
same "$($i cat --at "seq:$before" "$PWD/m/vault/letter" 2>/dev/null)" "second draft
and more"
expect 0 $i snapshot create kept
rm -r m/vault/d
expect 0 $i undelete "$PWD/m/vault"
grep -q ' rm  *.*/d/$' out || { cat out; die "rm is not named"; }
expect 0 $i undelete "$PWD/m/vault/d"
same "$(cat m/vault/d/a)" one
expect 0 diff -r m/snapshots/kept m/vault  # the directories may have got new numbers: the kernel still knew the old ones
expect 0 $i restore "$PWD/m/vault" --snapshot first
same "$(ls m/vault)" d
same "$(cat m/vault/d/a)" one
expect 0 $i unmount "$PWD/m"

# A directory put beside what is there is one like any other.
expect 0 $i restore :/d --snapshot first --to :/d-then
same "$($i cat :/d-then/a)" one
expect 0 $i fsck
