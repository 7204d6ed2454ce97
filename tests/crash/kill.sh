#!/usr/bin/env bash
# kill.sh [ROUNDS [SEED]]: the daemon is killed at random moments under load. Each time `mount` alone must bring the vault
# back, what was fsynced must be there, and the rest must be a prefix of what happened (D1, D2, D4).
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
rounds=${1:-6} seed=${2:-$RANDOM}
RANDOM=$seed
echo "seed $seed"
history=$INDRA_BIN/indra_history
expect 0 $i init
mkdir m
noise() {  # others at work: many small files, one that is rewritten, a database's kind of writing
  while mkdir m/noise.$1 && cp -r "$INDRA_SOURCE/src/tree" m/noise.$1/ &&
    head -c 5000000 /dev/urandom >m/noise.$1/big && for n in 1 2 3 4 5 6 7 8; do
      dd if=/dev/urandom of=m/noise.$1/big bs=4k count=3 seek=$((n * 99)) conv=notrunc,fsync status=none || return 0
    done && rm -r m/noise.$1; do :; done
}
for round in $(seq "$rounds"); do
  expect 0 $i mount --layout plain m  # over the dead mount of the round before
  if ((round > 1)); then
    $history check m/h$((round - 1)) $((seed + round - 1)) log || die "round $((round - 1)) of seed $seed"
    rm -r m/h$((round - 1)) m/noise.*
  fi
  ((round % 10)) || "$INDRA_SOURCE/tests/mount/record.sh" m >/dev/null || die "round $round: hashes"
  daemon=$($i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p')
  [[ -n $daemon ]] || die "no daemon"
  $history run m/h$round $((seed + round)) log & worker=$!
  { noise 1 & noise 2 & wait; } 2>/dev/null & others=$!
  ms=$((RANDOM % 2000 + 100))
  ((round % 8)) || ms=$((ms + 7000))  # long enough for every timer
  sleep $((ms / 1000)).$(printf %03d $((ms % 1000)))
  kill -9 "$daemon"
  wait $worker || die "round $round of seed $seed: a step failed before the kill"
  wait $others || true
done
expect 0 $i mount --layout plain m
$history check m/h$rounds $((seed + rounds)) log || die "round $rounds of seed $seed"
touch m/h$rounds/lost  # this check can fail
! $history check m/h$rounds $((seed + rounds)) log >/dev/null 2>&1 || die "the check takes anything"
"$INDRA_SOURCE/tests/mount/record.sh" m >before
expect 0 $i unmount m
expect 0 $i mount --layout plain m
"$INDRA_SOURCE/tests/mount/record.sh" m | diff before - || die "the remounted vault differs"
expect 0 $i unmount m
