#!/usr/bin/env bash
# docs/branches.md: bad input to everything about branches. A clear error of one line, and nothing has changed.
. "$INDRA_SOURCE/tests/cli/common.sh"
state() {
  $i branch list --json
  $i snapshot list --json
  $i cat :/f
}
# refused STATUS TEXT COMMAND...
refused() {
  local status=$1 text=$2
  shift 2
  expect "$status" "$@"
  [[ $status == 2 ]] || says "$text"
  grep -qaF -- "$text" err || { cat err >&2; die "the error does not say: $text"; }
  same "$(state)" "$was"
}

expect 0 $i init
printf one | $i put - :/f
expect 0 $i snapshot create first
expect 0 $i branch create agent
printf two | $i put - agent:/f
was=$(state)

# Names that nothing can have.
long=$(printf 'x%.0s' {1..201})
for name in a/b a:b .hidden '' "$long"; do
  refused 2 "a name has 1 to 200 bytes" $i branch create "$name"
  refused 2 "a name has 1 to 200 bytes" $i branch rename agent "$name"
  refused 2 "a name has 1 to 200 bytes" $i snapshot create "$name"
done
refused 1 "exist" $i branch create agent
refused 1 "exist" $i branch create main
refused 1 "exist" $i snapshot create first
# Names that nothing has.
for name in nobody $'odd \xff\n' "$long"; do
  refused 1 "there is no branch" $i merge "$name"
  refused 1 "there is no branch" $i merge agent --into "$name"
  refused 1 "there is no branch" $i branch refresh "$name"
  refused 1 "there is no branch" $i branch delete "$name"
  refused 1 "there is no branch" $i branch protect "$name"
  refused 1 "there is no branch" $i branch create fresh --from "$name"
  refused 1 "there is no snapshot" $i snapshot delete "$name"
  refused 1 "there is no snapshot" $i branch create fresh --from-snapshot "$name"
  refused 1 "there is no snapshot" $i restore :/f --snapshot "$name"
  refused 1 "there is no" $i diff "$name" main
done
# A branch with itself; with what it was never forked from there is nothing: all of a bucket come from one.
refused 1 "with itself" $i merge main
refused 1 "with itself" $i merge agent --into agent
# Moments: before the first pin, in the future, no time at all.
for at in '52 weeks ago' '@1' seq:0; do
  refused 1 "" $i branch create fresh --at "$at"
  refused 1 "" $i restore :/f --at "$at"
  refused 1 "" $i cat --at "$at" :/f
done
for at in '@99999999999' seq:999999999999; do
  refused 1 "future" $i branch create fresh --at "$at"
  refused 1 "future" $i restore :/f --at "$at"
done
for at in soon 'seq:' seq:x '@'; do
  refused 2 "" $i branch create fresh --at "$at"
  refused 2 "" $i restore :/f --at "$at"
done
# A moment or name that is empty is no moment: it was not left out.
for verb in 'branch create fresh' 'restore :/f' 'cat :/f' 'ls :/' 'log :/f' "mount $PWD/none"; do
  for option in --at --snapshot; do
    [[ $verb == branch* && $option == --snapshot ]] && option=--from-snapshot
    [[ $verb == log* && $option == --snapshot ]] && continue
    refused 2 "it is empty" $i $verb "$option" ''
  done
done
refused 2 "says no moment" $i diff agent: main
# Following: main, and moments.
refused 1 "forked from nothing" $i branch follow main
refused 1 "there is no branch" $i branch follow nobody
refused 2 "" $i branch create fresh --follow --at seq:1
# Paths.
refused 1 "/none" $i restore :/none --snapshot first
refused 1 "/none" $i undelete :/none
refused 1 "" $i log :/none
refused 1 "/none" $i diff agent --path /none

# Odd bytes that a name may have: they work. (A pipe gets them as they are; --json is for programs.)
odd=$'odd \xff\nname'
expect 0 $i branch create "$odd"
printf three | $i put - "$odd:/f"
$i put - :/f <<<'four'
$i branch list --json | python3 -c 'import json, sys; assert len(json.load(sys.stdin)) == 3'
expect 1 $i merge "$odd"
$i ls :/ --json | python3 -c 'import json, sys; assert len(json.load(sys.stdin)) == 2'
expect 0 $i snapshot create "$odd"
$i put - :/f <<<'five'
expect 0 $i cp --snapshot "$odd" :/f :/f-then
same "$($i cat :/f-then)" four
expect 0 $i rm :/f-then
expect 0 $i snapshot delete "$odd"
expect 0 $i branch delete "$odd"
expect 0 $i fsck
