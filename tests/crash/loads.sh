#!/usr/bin/env bash
# loads.sh [ROUNDS [SEED]]: four loads at once on a mount (random writes to one file, a history of all kinds of
# operations, commits in git, transactions in SQLite); the daemon is killed at random moments. Each time `mount` alone
# must bring the vault back, all that was answered is there (D1), and fsck finds nothing. 500 rounds take about 40 minutes.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
command -v git >/dev/null && command -v python3 >/dev/null || exit 77
. "$INDRA_SOURCE/tests/crash/loads.common.sh"
rounds=${1:-4} seed=${2:-$RANDOM}
RANDOM=$seed
echo "seed $seed"
expect 0 timeout 120 $i init
mkdir m
expect 0 timeout 120 $i mount --layout plain m
for round in $(seq "$rounds"); do
  daemon=$($i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p')
  [[ -n $daemon ]] || die "no daemon"
  ((round % 25)) || rm -rf m/repo m/base-*  # they would grow without end
  start_loads m $((seed + round))
  ms=$((RANDOM % 2500 + 100))
  ((round % 20)) || ms=$((ms + 6000))  # long enough for every timer
  sleep $((ms / 1000)).$(printf %03d $((ms % 1000)))
  kill -9 "$daemon"
  end_loads || die "round $round of seed $seed"
  expect 0 timeout 120 $i mount --layout plain m  # over the dead mount
  check_loads m $((seed + round)) || die "round $round of seed $seed"
  expect 0 timeout 120 $i fsck
  ((round % 50)) || echo "round $round: $(counts)"
done
((fsyncs + steps + commits + transactions > 0)) || die "nothing was ever answered: nothing was tested"
echo "$rounds rounds: $(counts)"
# These checks can fail.
echo "1 9 9 1 ok" >"$logs/fsx"
! "$INDRA_BIN/indra_loads" check m/nothing 1 "$logs/fsx" >/dev/null 2>&1 || die "a file that is lost is not missed"
echo "999999999 ok" >"$logs/rows"
mode=WAL
(((seed + rounds) % 2)) || mode=DELETE
! check_sqlite "m/base-$mode" 2>/dev/null || die "a row that is lost is not missed"
if [[ -d m/repo/.git ]]; then
  echo "1111111111111111111111111111111111111111 ok" >"$logs/commits"
  ! check_git m/repo >/dev/null 2>&1 || die "a commit that is lost is not missed"
fi
expect 0 timeout 120 $i unmount m
