#!/usr/bin/env bash
# docs/branches.md, G1..: merge and branch refresh as commands, and as a mount sees them.
. "$INDRA_SOURCE/tests/cli/common.sh"

expect 0 $i init
printf '1\n2\n3\n4\n5\n' | $i put - :/f
printf 'keep\n' | $i put - :/g
expect 0 $i branch create agent

expect 0 $i merge agent
grep -qF 'main has all of agent' out || die "no word of it that there is nothing to do"
printf '1\n2\n3\n4\nfive\n' | $i put - agent:/f
printf 'new\n' | $i put - agent:/n
printf 'one\n2\n3\n4\n5\n' | $i put - :/f
expect 0 $i merge --dry-run agent
grep -qxF 'M /f  (joined)' out && grep -qxF 'A /n' out || { cat out; die "the plan"; }
same "$($i cat :/f | head -n 1)" one
expect 1 $i cat :/n
expect 0 $i merge agent
same "$($i cat :/f | tr '\n' ' ')" "one 2 3 4 five "
same "$($i cat :/n)" new

# The way back, and conflicts: listed, kept, status 1.
expect 0 $i branch refresh agent
same "$($i cat agent:/f | tr '\n' ' ')" "one 2 3 4 five "
printf 'a\n' | $i put - agent:/g
printf 'm\n' | $i put - :/g
expect 1 $i merge agent --json
grep -qF '"outcome": "both"' out || { cat out; die "the conflict is not told"; }
same "$($i cat :/g)" m
second=$($i ls :/ | grep -F 'g (conflict agent ')
same "$($i cat ":/$second")" a
expect 0 $i merge agent
printf 'a2\n' | $i put - agent:/g
printf 'm2\n' | $i put - :/g
expect 1 $i merge agent --theirs g
same "$($i cat :/g)" a2

# Picked paths.
printf 'x\n' | $i put - agent:/x
printf 'y\n' | $i put - agent:/y
expect 0 $i merge agent --only /x
same "$($i cat :/x)" x
expect 1 $i cat :/y
expect 0 $i merge agent
same "$($i cat :/y)" y

# What is refused (G22).
expect 1 $i merge nobody
says "there is no branch nobody"
expect 1 $i merge agent --into nobody
says "there is no branch nobody"
expect 1 $i merge main
says "cannot be merged with itself"
expect 1 $i branch refresh main
says "was forked from nothing"
expect 2 $i merge

# A protected branch takes merges (G19).
expect 0 $i branch protect main
printf 'z\n' | $i put - agent:/z
printf no >no
expect 1 $i put no :/no
expect 0 $i merge agent
same "$($i cat :/z)" z
expect 0 $i branch protect --off main

# A mount sees it at once, also what it has read before.
[[ -w /dev/fuse ]] || exit 77
mkdir m
trap 'cd /; fusermount3 -uz "$OLDPWD/m" 2>/dev/null || true' EXIT
expect 0 $i mount m
same "$(cat m/vault/z)" z
exec 5<m/vault/g
read -r open <&5
same "$open" a2
printf 'later\n' >m/branches/agent/z
printf 'a3\n' >m/branches/agent/g
mkdir m/branches/agent/dir
mv m/branches/agent/x m/branches/agent/dir/x
expect 0 $i merge agent
same "$(cat m/vault/z)" later
same "$(cat m/vault/g)" a3
same "$(cat m/vault/dir/x)" x
[[ ! -e m/vault/x ]] || die "the moved file is still at its old place"
exec 5<&-
expect 0 $i unmount m
trap - EXIT
