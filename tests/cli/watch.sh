#!/usr/bin/env bash
# watch: resumes without gap or repetition, beside a mount and without one, through kill -9 of the daemon.
. "$INDRA_SOURCE/tests/cli/common.sh"
expect 1 $i watch
says "holds no vault; make one with: indrafs init"
expect 0 $i init
mkdir src && echo 1 >src/a && echo 2 >src/b
expect 0 $i import src :/notes
printf x | $i put - :/other
expect 0 $i watch --from 0 --once
grep -q 'mkdir  *:/notes  by' out || { cat out; die "no mkdir"; }
grep -q 'create  *:/notes/a' out || die "no create"
expect 0 $i watch --from 0 --once :/other --json
grep -q '"path":"/other"' out || die "no other"
! grep -q notes out || die "filter by place"
expect 0 $i watch --from 0 --once --kind write --json
! grep -vq '"op":"write"' out || die "filter by kind"
# A whole file is one event, also in the place of another.
expect 0 $i watch --from 0 --once --json :/other
[[ $(wc -l <out) == 1 ]] && grep -q '"op":"create"' out || { cat out; die "a new file is not one event"; }
printf y | $i put - :/other
expect 0 $i watch --from 0 --once --json :/other
[[ $(wc -l <out) == 2 ]] && tail -n 1 out | grep -q '"op":"write","path":"/other"' || { cat out; die "a replacement is not one event"; }
expect 0 $i watch --from 0 --once --json
! grep -q indrafs-incoming out || die "a hidden name"
expect 1 $i watch --kind wrote
says "there is no kind of change wrote; there are create"
expect 2 $i watch --from -3
expect 1 $i watch --bucket nobody --once

# A follower hears of what others do, and ends after what it was told to wait for.
last=$($i watch --from 0 --once --json | tail -n 1 | sed 's/.*"seq":\([0-9]*\).*/\1/')
$i watch --from "$last" --json --count 1 :/late >late.out &
follower=$!
soon sleeps $follower || true
printf x | $i put - :/late
wait $follower
grep -q '"path":"/late"' late.out || die "the follower did not hear"

[[ -r /dev/fuse && -w /dev/fuse ]] || exit 0
# In pieces: each resumes where the one before had ended. The daemon is killed in between.
mkdir m
expect 0 $i mount --layout plain m
trap 'fusermount3 -uz m 2>/dev/null || umount -l m 2>/dev/null || true' EXIT
last=$($i watch --from 0 --once --json | tail -n 1 | sed 's/.*"seq":\([0-9]*\).*/\1/')
pos=$last
for round in 1 2 3; do
  for n in $(seq 40); do echo "$n" >"m/f$round-$n"; done
  sync m/f$round-40 2>/dev/null || true
  $i sync
  $i watch --from "$pos" --json --count 13 >>pieces
  pos=$(tail -n 1 pieces | sed 's/.*"seq":\([0-9]*\).*/\1/')
  if [[ $round == 2 ]]; then
    daemon=$($i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p')
    kill -9 "$daemon"
    soon ended "$daemon" || die "kill -9 did not end it"
    expect 0 $i unmount m
    expect 0 $i mount --layout plain m
  fi
done
$i sync
$i watch --from "$pos" --once --json >>pieces
$i watch --from "$last" --once --json >whole
cmp pieces whole || die "the pieces are not the whole"
[[ $(grep -c '"op":"epoch"' whole) == 1 ]] || die "no epoch after the kill"
for round in 1 2 3; do
  for n in $(seq 40); do grep -q "\"op\":\"create\",\"path\":\"/f$round-$n\"" whole || die "f$round-$n is missing"; done
done
expect 0 $i watch --once --from "$last" m/f1-7 --json
[[ -s out ]] || die "nothing of a place named by the mount"
! grep -vE '"path":"/f1-7"|"op":"epoch"' out || die "more than the place that was named"
expect 0 $i unmount m
