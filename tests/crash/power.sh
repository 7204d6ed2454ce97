#!/usr/bin/env bash
# power.sh [CUTS [ROUNDS [SEED]]]: the power fails below a real mount. The vault lies on a file system in a loop device, whose
# file is copied at an instant, while loads run on the mount (the file system around it is frozen for that): what the device
# had been told by then, and nothing that was only in the machine's memory. The copy is mounted as another boot of the machine
# would find it, its vault is mounted, and all that was answered before the instant is there (D1). Then the same with a library
# below the daemon that drops flushes: that must be noticed. Root only.
. "$INDRA_SOURCE/tests/cli/common.sh"
PATH=$PATH:/usr/sbin:/sbin
. "$INDRA_SOURCE/tests/crash/loads.common.sh"

if [[ ${1-} == --check ]]; then  # in a mount namespace of its own: $2 the vault, $3 the seed, $4 the logs
  logs=$4
  mount --bind boot /proc/sys/kernel/random/boot_id
  mkdir -p after
  export INDRAFS_VAULT=$2
  trap 'timeout 60 $i unmount --force after >/dev/null 2>&1 || umount -l after 2>/dev/null || true' EXIT
  timeout 120 $i mount --layout plain after || exit 1
  for n in 1 2; do
    log=$logs/fsx$n
    if [[ -s $log ]]; then  # what was done since the last fsync that is noted may be there
      "$INDRA_BIN/indra_loads" check "after/fsx$n" "$3$n" "$log" 5000 >"$log.out" || exit 1
      read -r answered _ <"$log.out"
      fsyncs=$((fsyncs + answered))
    fi
  done
  mode=WAL
  (($3 % 2)) || mode=DELETE
  check_git after/repo && check_sqlite "after/base-$mode" || exit 1
  timeout 120 $i unmount after || exit 1
  timeout 120 $i fsck >fsck.out || { cat fsck.out; exit 1; }
  echo "$fsyncs $commits $transactions" >counted
  exit 0
fi

[[ $EUID == 0 && -r /dev/fuse && -w /dev/fuse ]] || exit 77
for tool in losetup mkfs.ext4 fsfreeze unshare git python3 cc; do command -v $tool >/dev/null || exit 77; done
losetup -f >/dev/null 2>&1 || exit 77
cuts=${1:-2} rounds=${2:-1} seed=${3:-$RANDOM}
RANDOM=$seed
echo "seed $seed"
export INDRAFS_VAULT=$PWD/inner/vault
mkdir m outer inner cut

detach() {
  fsfreeze --unfreeze outer 2>/dev/null || true
  [[ -z ${daemon-} ]] || kill -9 "$daemon" 2>/dev/null || true
  daemon=
  end_loads >/dev/null 2>&1 || true
  fusermount3 -uz m 2>/dev/null || true
  local at n
  for at in cut inner outer; do
    for n in $(seq 100); do
      mountpoint -q $at || break
      umount $at 2>/dev/null || sleep 0.1
    done
    ! mountpoint -q $at || umount -l $at
  done
}
trap detach EXIT
attach() {
  rm -f outer.img "$logs"/*
  truncate -s 900M outer.img
  mkfs.ext4 -q -F outer.img
  mount -o loop,noatime outer.img outer || return 1
  truncate -s 500M outer/inner.img
  mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 outer/inner.img
  mount -o loop,noatime,commit=300 outer/inner.img inner
}

# The lines that were whole when the device was copied: what had been answered.
cut_power() {
  rm -rf cut.logs cut.img
  mkdir cut.logs
  local f
  for f in fsx1 fsx2 commits rows; do
    [[ ! -f $logs/$f ]] || sed -n '/ok$/s/ ok$//p' "$logs/$f" >cut.logs/$f
  done
  fsfreeze --freeze outer
  cp --sparse=always outer/inner.img cut.img || { fsfreeze --unfreeze outer; die "no copy"; }
  fsfreeze --unfreeze outer
}
holds() {  # SEED: the copy has all of it
  local status=0
  cat /proc/sys/kernel/random/uuid >boot
  mount -o loop,noatime cut.img cut || return 1
  unshare -m --propagation private "$BASH" "$0" --check "$PWD/cut/vault" "$1" "$PWD/cut.logs" || status=1
  local n
  for n in $(seq 200); do  # its daemon may still be ending
    umount cut 2>/dev/null && break
    sleep 0.1
  done
  return $status
}

# round LIBRARY CUTS SEED: 0: all held
round() {
  local status=0 c ms
  attach || return 2
  expect 0 timeout 120 $i init
  sync -f inner
  expect 0 timeout 120 env ${1:+LD_PRELOAD=$1} $i mount --layout plain m
  daemon=$($i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p')
  [[ -n $daemon ]] || die "no daemon"
  start_cut_loads m "$3"
  for c in $(seq "$2"); do
    ms=$((RANDOM % 1500 + 300))
    sleep $((ms / 1000)).$(printf %03d $((ms % 1000)))
    cut_power
    holds "$3" || { status=1; break; }
  done
  kill -9 "$daemon"
  daemon=
  end_loads || die "the loads, seed $3"
  detach
  return $status
}

all=0 fsyncs=0 commits=0 transactions=0
for r in $(seq "$rounds"); do
  rm -f counted
  status=0
  round "" "$cuts" $((seed + r)) || status=$?
  ((r > 1 || status != 2)) || exit 77  # no loop device could be had
  ((status == 0)) || die "round $r of seed $seed"
  read -r f c t <counted
  fsyncs=$((fsyncs + f)) commits=$((commits + c)) transactions=$((transactions + t)) all=$((all + cuts))
done
((fsyncs + commits + transactions > 0)) || die "nothing had been answered at any cut: nothing was tested"
echo "$all cuts: $fsyncs fsyncs, $commits commits, $transactions transactions: all there"

cat >drops.c <<'C'
#include <stddef.h>
int fsync(int f) { (void)f; return 0; }
int fdatasync(int f) { (void)f; return 0; }
int msync(void* at, size_t n, int flags) { (void)at; (void)n; (void)flags; return 0; }
C
cc -shared -fPIC -o drops.so drops.c
if round "$PWD/drops.so" 5 $((seed + 1000)); then die "a library that drops flushes is not noticed"; fi
echo "a library that drops flushes is noticed"
