#!/usr/bin/env bash
# docs/branches.md, R1..R5: a command in a fork, in the place of the branch.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -e /dev/fuse ]] || exit 77

expect 0 $i init
mkdir m m2
here=$PWD
trap 'cd /; fusermount3 -uz "$here/m" 2>/dev/null || true; fusermount3 -uz "$here/m2" 2>/dev/null || true' EXIT
expect 0 $i mount "$PWD/m"
mkdir -p m/vault/project/sub m/vault/other
echo one >m/vault/project/a
branches() { $i branch list | grep -c ^try- || true; }
in_dir() { # DIR COMMAND...: as expect's command, in DIR
  local dir=$1
  shift
  (cd "$dir" && "$@")
}

# The fork is in the place of the branch, at the same paths, for the command alone (R1).
expect 7 in_dir m/vault/project/sub $i try --drop -- sh -c '
  pwd; echo two >../a; echo three >'"$PWD"'/m/vault/other/b; mkdir ../../top
  cat ../a; cat '"$PWD"'/m/vault/project/a; exit 7'
same "$(cat out)" "$PWD/m/vault/project/sub
two
two"
for line in 'M    /project/a' 'A    /other/b  +6 bytes' 'A    /top/' '1 changed, 2 added'; do
  grep -qxF "$line" err || { cat err; die "not shown: $line"; }
done
same "$(cat m/vault/project/a)" one
[[ ! -e m/vault/other/b && ! -e m/vault/top ]] || die "the branch itself was written to"
same "$(branches)" 0

# Kept, with what came of it (R2).
expect 0 in_dir m/vault/project $i try --keep --name agent -- sh -c 'echo two >a'
grep -q 'kept as branch agent' err || die "kept in silence"
same "$(cat m/branches/agent/project/a)" two
same "$(cat m/vault/project/a)" one
expect 0 in_dir m/vault $i try -- sh -c 'echo x >new' </dev/null # nobody to ask: nothing is lost
same "$(branches)" 1
expect 1 in_dir m/vault $i try --name agent -- true
expect 0 in_dir m/vault $i try -- true
grep -q 'nothing was changed' err || die "no word"
same "$(branches)" 1
# Of another branch than the mounted one.
expect 0 in_dir m/branches/agent/project $i try --drop -- sh -c 'cat a; rm a; ls'
same "$(cat out)" "two
sub"
same "$(cat m/branches/agent/project/a)" two

# Merged, when the command succeeds (R2).
expect 0 in_dir m/vault/project $i try --merge -- sh -c 'echo merged >b'
same "$(cat m/vault/project/b)" merged
same "$(branches)" 1
expect 3 in_dir m/vault/project $i try --merge --name failed -- sh -c 'echo no >b; exit 3'
same "$(cat m/vault/project/b)" merged
same "$(cat m/branches/failed/project/b)" no
expect 1 in_dir m/vault/project $i try --merge --name both -- sh -c "echo theirs >b; echo ours | $i put - :/project/b"
grep -q 'conflict: /project/b' err || { cat err; die "no word of the conflict"; }
same "$(cat m/branches/both/project/b)" theirs
same "$(cat m/vault/project/b* | sort)" "ours
theirs"
rm m/vault/project/b*

# What happened to the command (R3).
expect 143 in_dir m/vault $i try -- sh -c 'kill -TERM $$'
expect 127 in_dir m/vault $i try -- ./nonsense
expect 126 in_dir m/vault $i try -- ./project/a
same "$(branches)" 1
(cd m/vault && exec $i try --drop -- sh -c 'echo x >started; trap "exit 9" TERM; while :; do sleep 0.1; done') &
tried=$!
started() { $i branch list --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'; }
for _ in $(seq 100); do compgen -G 'm/branches/try-*/started' >/dev/null && break; sleep 0.1; done
kill -TERM $tried
got=0
wait $tried || got=$?
same $got 9
same "$(branches)" 1

# For programs: standard output is one object.
expect 0 in_dir m/vault $i try --json --drop -- sh -c 'echo noise; echo y >y'
python3 -c 'import json; r = json.load(open("out")); assert r["outcome"] == "dropped" and r["status"] == 0 and [c["b"]["path"] for c in r["changes"]] == ["/y"], r'
expect 0 in_dir m/vault $i try -p --drop -- sh -c 'echo two >>project/a'
grep -qx '+two' err || die "no patch"

# One in another, and verbs inside: they mean the fork.
expect 0 in_dir m/vault/project $i try --drop -- sh -c "
  echo outer >a; $i try --drop -- sh -c 'echo inner >a; cat a'; cat a; $i cat ./a; $i log ./a | wc -l"
same "$(grep -v '^$' out)" "inner
outer
outer
2"
same "$(cat m/vault/project/a)" one

# Many at once (R4).
for n in $(seq "${INDRA_TRIES:-24}"); do
  (cd m/vault/project && exec $i try --drop -- sh -c "echo $n >a; sleep 0.2; [ \$(cat a) = $n ]" >"$here/many.$n" 2>&1) &
  pids[n]=$!
done
for n in $(seq "${INDRA_TRIES:-24}"); do wait "${pids[n]}" || { cat "many.$n"; die "try number $n"; }; done
same "$(cat m/vault/project/a)" one
same "$(branches)" 1

# A mount of the branch alone.
expect 0 $i mount --branch agent --layout plain "$PWD/m2"
expect 0 in_dir m2/project $i try --drop -- sh -c 'cat a; echo plain >a; cat a ../project/a; '"$i"' cat ./a'
same "$(cat out)" "two
plain
plain
plain"
same "$(cat m2/project/a)" two
same "$($i status --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["mounts"]))')" 2

# Without namespaces: it says what to do, nothing stays, and --beside works (R5).
if unshare -U --map-current-user --keep-caps sh -c 'echo 0 >/proc/sys/user/max_user_namespaces' 2>/dev/null; then
  no_namespaces() {
    unshare -U --map-current-user --keep-caps sh -c 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"' sh "$@"
  }
  expect 1 in_dir m/vault no_namespaces $i try -- true
  says "use --beside"
  same "$(branches)" 1
  expect 0 in_dir m/vault/project no_namespaces $i try --beside --drop -- sh -c 'pwd; echo beside >a; cat a'
  [[ $(head -1 out) == "$PWD"/m/branches/try-*/project ]] || die "not beside"
  same "$(tail -1 out)" beside
  same "$(cat m/vault/project/a)" one
fi

# What is refused.
expect 2 $i try -- true
expect 0 $i snapshot create s
expect 2 in_dir m/snapshots/s $i try -- true
expect 2 in_dir m/vault $i try --keep --drop -- true
expect 2 in_dir m/vault $i try
expect 0 $i unmount "$PWD/m2"
expect 0 $i unmount "$PWD/m"
