#!/usr/bin/env bash
# The verbs on a vault that is not mounted.
. "$INDRA_SOURCE/tests/cli/common.sh"

# Usage is 2, failure is 1, help is 0 and has examples.
expect 2 $i
expect 2 $i nonsense
expect 2 $i cat
says "see: indrafs cat --help"
expect 0 $i --help
verbs=$(sed -n '/^Subcommands:/,/^$/s/^  \([a-z]\{1,\}\) .*/\1/p' out)
(($(wc -w <<<"$verbs") >= 37)) || die "verbs: $verbs"
page=$(sed 's/\\-/-/g' "$INDRA_SOURCE/docs/indrafs.1")
for verb in $verbs; do
  expect 0 $i $verb --help
  grep -q '^Subcommands:' out || grep -A2 '^Examples:' out | grep -q "indrafs $verb" || die "$verb --help has no example"
  grep -qE "^\.B[IR]* .*\b$verb\b" <<<"$page" || die "$verb is not in docs/indrafs.1"
  for part in $(sed -n '/^Subcommands:/,/^$/s/^  \([a-z]\{1,\}\) .*/\1/p' out); do
    expect 0 $i $verb $part --help
    [[ $verb == queue && $part == rule ]] || grep -A1 '^Examples:' out | grep -q "^  " || die "$verb $part --help has no example"
    grep -qE "\b$part\b" <<<"$page" || die "$verb $part is not in docs/indrafs.1"
  done
done
for shell in bash zsh; do expect 0 $i completion $shell; done
$i completion bash | bash -n
expect 1 $i ls
says "holds no vault; make one with: indrafs init"

expect 0 $i init
player=$(sed -n 's/^Player: //p' out)
expect 1 $i init
says "holds a vault already"
expect 1 $i --player "${player//[0-9]/a}" ls
says "player"
expect 0 $i ls --player "$player"

# put, cat, get
printf 'hello\n' >a.txt
touch -d '2020-02-02 02:02:02.123456789' a.txt
chmod 640 a.txt
expect 0 $i put a.txt :/
same "$($i cat :/a.txt)" hello
expect 0 $i get :/a.txt b.txt
same "$(stat -c '%a %y' b.txt)" "$(stat -c '%a %y' a.txt)"
printf 'from stdin' | $i put - :/in
same "$($i cat :/in)" "from stdin"
expect 1 $i put a.txt :/no/where
expect 0 $i put -p a.txt :/made/for/it
expect 1 $i put a.txt :/in/x
expect 1 $i cat :/missing
says "indrafs: cat: /missing: No such file or directory"
expect 2 $i cat ./a.txt
says "neither a path in the vault"
expect 2 $i cat :/made/../in
expect 1 $i cat nobranch:/in
says "there is no branch nobranch"
expect 1 $i put a.txt --on-conflict fail :/in
same "$($i cat :/in)" "from stdin"
head -c 3000000 /dev/urandom >big
expect 0 $i put big :/big
$i cat :/big | cmp - big
$i get :/big - | cmp - big
command -v b3sum >/dev/null && same "$($i stat --json :/big | sed -n 's/.*"hash": "\(.*\)".*/\1/p')" "$(b3sum --no-names big)"

# mv, cp, rm
expect 0 $i mv :/in :/made
expect 1 $i mv -n :/a.txt :/big
expect 0 $i cp :/big :/big2
$i cat :/big2 | cmp - big
unique() { $i stats --json | sed -n 's/.*"unique": \([0-9]*\).*/\1/p'; }
before=$(unique)
expect 0 $i cp :/big :/big3
(( $(unique) - before <= 65536 )) || die "cp copied what it could share"  # an unfinished last chunk may be
expect 1 $i cp :/made :/copy
expect 0 $i cp -r :/made :/copy
expect 0 $i cp -r :/made :/made/self
expect 1 $i rm :/copy
says "remove it with -r"
expect 0 $i rm -r :/copy
expect 1 $i rm :/copy
expect 0 $i rm -f :/copy

# branches and snapshots
expect 0 $i snapshot create monday -m "first"
expect 0 $i branch create agent
expect 1 $i branch create agent
expect 2 $i branch create .bad
printf new | $i put - agent:/a.txt
same "$($i cat :/a.txt)" hello
same "$($i cat agent:/a.txt)" new
expect 0 $i rm :/a.txt
same "$($i cat --snapshot monday :/a.txt)" hello
expect 0 $i cp --snapshot monday :/a.txt :/back.txt
expect 1 $i mv :/back.txt agent:/x
says "use cp"
expect 0 $i cp :/back.txt agent:/x
$i branch list | grep -q '^agent .*from main' || die "branch list"
$i snapshot list | grep -q '^monday .*first' || die "snapshot list"

# ls and tree
bad=$'bad\xff\nname'
printf x | $i put - ":/$bad"
$i ls --json | grep -q '"hex"' || die "a name that is not UTF-8 in JSON"
same "$($i cat ":/$bad")" x
expect 0 $i ls -laR
expect 0 $i tree -L 2
grep -q 'director' out || die tree
expect 0 $i ls -d :/made
expect 0 $i status
grep -q '^Mounted:   nowhere' out || die status
$i status --json | python3 -m json.tool >/dev/null
expect 0 $i sync
expect 0 $i sync --publish

# Two at once: one waits for the other.
for n in 1 2 3 4 5 6; do printf "$n" | $i put - ":/n$n" 2>/dev/null & done
wait
for n in 1 2 3 4 5 6; do same "$($i cat ":/n$n")" "$n"; done

# A reader that has enough is no failure to shout about.
$i cat :/big 2>err | head -c 10 >/dev/null || true
[[ ! -s err ]] || die "broken pipe"
