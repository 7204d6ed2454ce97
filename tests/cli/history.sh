#!/usr/bin/env bash
# docs/branches.md, F1..F5: what differs between two moments, and the versions of a file.
. "$INDRA_SOURCE/tests/cli/common.sh"
json() { python3 -c "import json, sys; rows = json.load(sys.stdin); $1"; }

expect 0 $i init
mkdir -p src/d/deep
printf 'one\ntwo\nthree\n' >src/d/a.txt
printf 'stays\n' >src/d/deep/stays
printf '#!/bin/sh\n' >src/d/run
printf 'bytes\0bytes' >src/d/bin
ln -s a.txt src/d/link
expect 0 $i import src/d :/d
expect 0 $i snapshot create first
expect 0 $i branch create agent
expect 0 $i diff agent
same "$(cat out)" ""

# Names and figures; renames by identity (F2, F3).
printf 'one\nTWO\nthree\n' | $i put - agent:/d/a.txt
printf 'new file\n' | $i put - 'agent:/d/with space'
expect 0 $i mv agent:/d/deep agent:/d/moved
expect 0 $i rm agent:/d/bin
expect 0 $i diff agent
cat >want <<'W'
M    /d/a.txt
D    /d/bin  -11 bytes
R    /d/moved/  from /d/deep/
A    /d/with space  +9 bytes
1 changed, 1 added, 1 removed, 1 moved
W
diff want out || die "diff"
for sides in "main agent" "first agent" "main:/ agent:/" "main agent --path /d" "first agent --path /d/"; do
  expect 0 $i diff $sides
  diff want out || die "diff $sides"
done
expect 0 $i diff agent --path /d/a.txt
same "$(head -1 out)" "M    /d/a.txt"
expect 0 $i diff agent --path /d/deep # where it was, too
same "$(head -1 out)" "R    /d/moved/  from /d/deep/"
expect 0 $i diff main first
same "$(cat out)" ""
expect 0 $i diff agent main
grep -q '^A    /d/bin' out || die "the other way round"
$i diff agent --json | json 'assert len(rows) == 4 and rows[0]["content"] and not rows[0]["moved"] and rows[1]["b"] is None and rows[2]["a"]["path"] == "/d/deep", rows'

# The patch is one that git applies, with names, modes, links.
expect 0 $i rm agent:/d/link
mkdir m
if [[ -e /dev/fuse ]]; then
  trap 'fusermount3 -uz "$PWD/m" 2>/dev/null || true' EXIT
  expect 0 $i mount --branch agent --layout plain "$PWD/m"
  chmod +x m/d/a.txt
  ln -s moved/stays m/d/link2
  printf 'no newline at the end' >m/d/run
  expect 0 $i diff first "$PWD/m" # a mount is a side
  grep -q '^Mm   /d/a.txt' out || die "no mode"
  expect 0 $i unmount "$PWD/m"
fi
expect 0 $i snapshot create worked --branch agent
printf 'text\n' | $i put - agent:/d/bin # no binaries: a patch has no bytes of them
expect 0 $i snapshot create shown --branch agent
expect 0 $i rm :/d/bin
expect 0 $i snapshot create base
expect 0 $i export --on-conflict replace --at "seq:$($i snapshot list --json | json 'print([r["seq"] for r in rows if r["name"] == "base"][0])')" :/ before
expect 0 $i export agent:/ after
expect 0 $i diff base agent -p
cp out patch
(cd before && git init -q . && git apply --whitespace=nowarn ../patch && rm -rf .git) || die "git does not apply the patch"
diff -r before after || die "the patch leads elsewhere"
same "$(stat -c %a before/d/a.txt)" "$(stat -c %a after/d/a.txt)"
expect 0 $i diff base agent -p -U0
grep -q '^@@ -2 +2 @@' out || die "-U0 has context"
expect 0 $i diff first base -p
grep -q '^Binary files a/d/bin and /dev/null differ' out || die "binary"

# A directory outside.
expect 0 $i diff agent:/ ./after
same "$(cat out)" ""
printf 'ONE\n' >after/d/a.txt
rm after/d/run
mkdir after/empty
ln -sfn elsewhere after/d/link3
head -c 200000 /dev/zero >after/d/zeros
head -c 65536 /dev/zero >after/d/chunk
$i put after/d/chunk agent:/d/chunk
$i put after/d/zeros agent:/d/zeros
printf x | dd of=after/d/zeros bs=1 seek=150000 conv=notrunc 2>/dev/null
expect 0 $i diff agent:/d ./after/d
cat >want <<'W'
M    /a.txt  -10 bytes
A    /link3  +9 bytes
D    /run  -21 bytes
M    /zeros
2 changed, 1 added, 1 removed
W
[[ -e /dev/fuse ]] || sed -i 's/-21 bytes/-10 bytes/' want
diff want out || die "a directory outside"
expect 0 $i diff ./after/d agent:/d -p
grep -q '^-ONE' out || die "a directory outside, -p"
expect 2 $i diff ./after ./before
expect 2 $i diff ./after
expect 1 $i diff ./nowhere main

# What is refused.
expect 1 $i diff nobody
says "there is no branch or snapshot nobody"
expect 1 $i diff main
says "was forked from nothing"
expect 1 $i diff main agent --path /nowhere
expect 2 $i diff
expect 2 $i diff main:/a agent:/b
expect 1 $i diff main ':52 weeks ago'

# Versions of a file (F5).
for n in 1 22 333; do
  printf "$n" | $i put - :/doc
  expect 0 $i snapshot create "v$n"
done
expect 0 $i mv :/doc :/d/renamed
expect 0 $i log :/d/renamed
[[ $(wc -l <out) == 3 ]] || { cat out; die "not three versions"; }
grep -q '^now .* 3 bytes (+1)' out || die "the newest"
$i log :/d/renamed --json | json 'assert [r["size"] for r in rows] == [3, 2, 1] and rows[0]["at"] is None and rows[0]["program"] == "indrafs", rows'
for n in 1 22; do
  at=$($i log :/d/renamed --json | json "print([r['at'] for r in rows if r['size'] == ${#n}][0])")
  same "$($i cat --at "seq:$at" :/doc 2>/dev/null)" "$n"
done
expect 0 $i log --snapshot v22 :/doc
[[ $(wc -l <out) == 2 ]] || die "not two versions by then"
expect 1 $i log :/d
says "only files have versions"
expect 1 $i log :/nowhere

# Saved as editors save: one line with its versions.
[[ -e /dev/fuse ]] || exit 0
expect 0 $i mount "$PWD/m"
trap 'fusermount3 -uz "$PWD/m" 2>/dev/null || true' EXIT
printf 'first\n' >m/vault/letter
save() { expect 0 $i snapshot create "saved$1"; }
save 0
sed -i s/first/second/ m/vault/letter
save 1
vim -u NONE -es -c 's/second/third/' -c 'set backup backupcopy=no' -c wq m/vault/letter
save 2
vim -u NONE -es -c 's/third/fourth/' -c 'set backupcopy=yes' -c wq m/vault/letter
save 3
python3 - <<'P'
import os
open("m/vault/.letter.tmp", "w").write("fifth\n")
os.rename("m/vault/.letter.tmp", "m/vault/letter")
P
same "$(cat m/vault/letter)" fifth
expect 0 $i log "$PWD/m/vault/letter"
cat out
[[ $(wc -l <out) == 5 ]] || die "not one line with five versions"
for who in sed vim python3; do grep -q "  $who (uid $(id -u))" out || die "no $who in the log"; done
expect 0 $i diff saved0 main
same "$(head -1 out)" "M    /letter"
same "$($i cat --snapshot saved2 :/letter)" third
expect 0 $i unmount "$PWD/m"
