#!/usr/bin/env bash
# Who watches a mount hears of what is done through another mount and by commands (E1), as inotifywait, tail and vim do.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
command -v inotifywait >/dev/null || exit 77
$i init >/dev/null
mkdir m1 m2 m3
expect 0 $i mount --layout plain --locks daemon m1
expect 0 $i mount --layout plain --locks daemon m2

# listen DIR: what is heard goes to ./heard, as "EVENTS FILE".
listen() {
  sleep 1  # what was done before is over: an event comes a moment after what it tells
  : >heard
  : >listening
  inotifywait -q -m -r --format '%e %w%f' -e create,delete,move,modify,attrib,close_write "$1" >>heard 2>listening & ear=$!
  trap 'kill $ear 2>/dev/null || true' EXIT
  local top
  top=$(printf '^inotify .* ino:%x ' "$(stat -c %i "$1")")
  marked() { grep -qs "$top" /proc/$ear/fdinfo/*; }
  soon marked || die "inotifywait has not begun"  # -q says nothing when it is ready: the kernel shows its marks; the top's is the last
  sleep 0.1
}
# hears EVENTS...: exactly these come, in this order; then ./heard is empty again.
hears() {
  local want
  want=$(printf '%s\n' "$@")
  soon lines heard $# || true
  sleep 0.1
  [[ $(<heard) == "$want" ]] || { diff <(echo "$want") heard >&2 || true; die "heard something else (<: wanted)"; }
  : >heard
}

# The same, in whatever order.
hears_all() {
  soon lines heard $# || true
  sleep 0.1
  diff <(printf '%s\n' "$@" | sort) <(sort heard) >&2 || die "heard something else (<: wanted)"
  : >heard
}

mkdir m2/d
ls m1/d >/dev/null
listen m1
# Through another mount
echo one >m2/d/f
hears "CREATE m1/d/f" "MODIFY m1/d/f" "CLOSE_WRITE,CLOSE m1/d/f"
echo more >>m2/d/f
hears "MODIFY m1/d/f" "CLOSE_WRITE,CLOSE m1/d/f"
same "$(cat m1/d/f)" "$(printf 'one\nmore')"
truncate -s 3 m2/d/f
hears "MODIFY m1/d/f" "CLOSE_WRITE,CLOSE m1/d/f"
same "$(cat m1/d/f)" one
chmod 600 m2/d/f
hears "ATTRIB m1/d/f"
touch -d 2001-02-03 m2/d/f
hears "ATTRIB m1/d/f" "CLOSE_WRITE,CLOSE m1/d/f"
same "$(date -r m1/d/f +%F)" 2001-02-03
setfattr -n user.colour -v red m2/d/f
hears "ATTRIB m1/d/f"
mv m2/d/f m2/d/g
hears "MOVED_FROM m1/d/f" "MOVED_TO m1/d/g"
mv m2/d/g m2/g
hears "MOVED_FROM m1/d/g" "MOVED_TO m1/g"
ln m2/g m2/d/hard
hears "CREATE m1/d/hard"
ln -s g m2/soft
hears "CREATE m1/soft"
mkfifo m2/pipe
hears "CREATE m1/pipe"
rm m2/soft m2/pipe m2/d/hard
hears "DELETE m1/soft" "DELETE m1/pipe" "DELETE m1/d/hard"
mkdir m2/new
hears "CREATE,ISDIR m1/new"
rmdir m2/new
hears "DELETE,ISDIR m1/new"
# As editors save: a new file over the old one
echo two >m2/.g.new  # and a pause: a mount's daemon hears of a close after the program has gone on
hears "CREATE m1/.g.new" "MODIFY m1/.g.new" "CLOSE_WRITE,CLOSE m1/.g.new"
mv m2/.g.new m2/g
hears "MOVED_FROM m1/.g.new" "MOVED_TO m1/g"
same "$(cat m1/g)" two
# By commands
echo three | $i put - :/g
hears "MOVED_TO m1/g"
same "$(cat m1/g)" three
echo four | $i put - :/h
hears "CREATE m1/h" "CLOSE_WRITE,CLOSE m1/h"
$i mv :/h :/d/h
hears "MOVED_FROM m1/h" "MOVED_TO m1/d/h"
$i snapshot create three >/dev/null
$i rm :/d/h
hears "DELETE m1/d/h"
expect 0 $i undelete :/d/h
hears "CREATE m1/d/h" "CLOSE_WRITE,CLOSE m1/d/h"
same "$(cat m1/d/h)" four
$i rm :/d/h
hears "DELETE m1/d/h"
echo five | $i put - :/g
hears "MOVED_TO m1/g"
expect 0 $i restore :/g --snapshot three
hears "MOVED_TO m1/g"
same "$(cat m1/g)" three
$i rm -r :/d
hears "DELETE,ISDIR m1/d"
# By merges, in the order in which they can be done: names, then what is in them
mkdir m1/old m1/kept
echo x >m1/old/leaves
echo x >m1/goes
echo x >m1/stays
ls m1/old m1/kept >/dev/null
kill $ear
wait $ear 2>/dev/null || true
$i branch create agent >/dev/null
expect 0 $i mount --branch agent --layout plain m3
listen m1
rm m3/goes
mv m3/old/leaves m3/kept/came
rmdir m3/old
mkdir m3/added
echo y >m3/kept/new
echo y >m3/stays
chmod 700 m3/kept
sleep 0.3
hears
expect 0 $i merge agent
hears_all "MOVED_FROM m1/old/leaves" "DELETE,ISDIR m1/old" "DELETE m1/goes" "CREATE,ISDIR m1/added" "CREATE m1/kept/new" \
  "CLOSE_WRITE,CLOSE m1/kept/new" "MOVED_TO m1/kept/came" "MODIFY m1/stays" "CLOSE_WRITE,CLOSE m1/stays" "ATTRIB,ISDIR m1/kept" "ATTRIB,ISDIR m1/kept/"
same "$(cat m1/stays m1/kept/new m1/kept/came)" "$(printf 'y\ny\nx')"
expect 0 $i unmount m3
# A merge of more than can be told singly: each directory that is watched is told once, that it changed
kill $ear
wait $ear 2>/dev/null || true
mkdir m1/many
$i branch create crowd >/dev/null
(mkdir crowd && cd crowd && seq 20000 | xargs touch)
expect 0 $i import crowd crowd:/many
listen m1
expect 0 $i merge crowd
same "$(grep -c "^A /many" out)" 20000
soon grep -q '^ATTRIB,ISDIR m1/many' heard || die "nobody heard of the large merge"
[[ $(grep -c '^ATTRIB,ISDIR' heard) -le 60 ]] || die "told again and again: $(grep -c '^ATTRIB,ISDIR' heard)"
[[ $(wc -l <heard) -lt 10000 ]] || die "a storm: $(wc -l <heard) events"
same "$(ls m1/many | wc -l)" 20000
sleep 0.3
: >heard
# The mount that did it: the kernel's own event, once
echo five >m1/own
hears "CREATE m1/own" "MODIFY m1/own" "CLOSE_WRITE,CLOSE m1/own"
kill $ear
wait $ear 2>/dev/null || true

# tail -f sees what another mount appends.
: >m2/log
timeout 150 tail -s 0.1 -n +1 -f m1/log >tailed 2>/dev/null & tail=$!
for n in $(seq 20); do echo "$n" >>m2/log; done
soon lines tailed 20 || die "tail has $(wc -l <tailed) lines"
kill $tail
same "$(<tailed)" "$(seq 20)"

# An open vim notices.
if command -v vim >/dev/null; then
  echo before >m2/text
  timeout 100 vim -u NONE -N -i NONE -n -es -c 'au FileChangedShell * call writefile([v:fcs_reason], "noticed")' \
    -c 'edit m1/text' -c 'call system("echo after, and longer >m2/text")' -c 'checktime' -c 'qa!' </dev/null >/dev/null 2>&1 || true
  [[ -e noticed ]] || die "vim did not notice"
  same "$(<noticed)" changed
fi

# The process that raises events ends with its daemon, however that ends, and holds no file of the vault.
listen m1
echo x >m2/last
hears "CREATE m1/last" "MODIFY m1/last" "CLOSE_WRITE,CLOSE m1/last"
raisers() { pgrep -f "raise-events $PWD/m" || true; }
[[ -n $(raisers) ]] || die "who raised them?"
for r in $(raisers); do
  if ls -l "/proc/$r/fd" | grep -E 'vault|fuse'; then die "the process holds them open"; fi
done
daemon=$($i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p')
kill -9 "$daemon"
none_raises() { [[ -z $(raisers) ]]; }
soon none_raises || die "the process outlives its daemon"
kill $ear
wait $ear 2>/dev/null || true

# Unmounting is not kept from by it; with --events off nothing is heard.
expect 0 $i mount --layout plain --locks daemon m1
expect 0 $i mount --layout plain --locks daemon --events off m2
expect 0 $i mount --layout vault --locks daemon m3
listen m3/vault
for n in $(seq 50); do echo "$n" >m1/many$n; done
expect 0 $i unmount m3
kill $ear
wait $ear 2>/dev/null || true
listen m2
echo y >m1/unheard
sleep 0.3
hears
kill $ear
wait $ear 2>/dev/null || true
expect 0 $i unmount m2
expect 0 $i unmount m1
