#!/usr/bin/env bash
# How many bytes reach the device: random 4 KiB overwrites, each with fdatasync, and SQLite, in a vault on an ext4 of its own (a
# loop device), with user.indra.versions=off and with automatic versions; by the device's own counter, from the start until
# `status` says at rest. Then: how large the vault is, whether the hash is b3sum's, how fast the file is read cold, before and after.
#
# The ext4 is as mkfs makes it, with a journal; --no-journal leaves that out, below the vault and the native run alike.
#
#   sudo bench/written.sh [--size MIB] [--count N] [--transactions N] [--indrafs BIN] [--fsops BIN] [--work DIR] [--only off,on]
#                         [--no-journal] [--sqlite-only]
set -euo pipefail
# shellcheck source=bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

size=1024 count=100000 transactions=2000 only='' kinds=off,on journal_option=() sqlite_only=''
while (($#)); do
  case $1 in
    --size) size=$2; shift ;;
    --count) count=$2; shift ;;
    --transactions) transactions=$2; shift ;;
    --indrafs) indrafs=$2; shift ;;
    --fsops) fsops=$2; shift ;;
    --work) work=$2; shift ;;
    --only) kinds=$2; shift ;;
    --no-journal) journal_option=(-O ^has_journal) ;;
    --sqlite-only) sqlite_only=yes ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "No option $1; see --help" ;;
  esac
  shift
done
((EUID == 0)) || fail "Only root can make a loop device"
setup_work 2>/dev/null

disk=$work/disk
detach() { umount "$disk" 2>/dev/null || umount -l "$disk" 2>/dev/null || true; rm -f "$work/image"; }
trap 'unmount_target indrafs 2>/dev/null || true; detach; finish' EXIT
fresh_disk() {
  detach
  mkdir -p "$disk" && truncate -s $((size * 8 + 4096))M "$work/image"
  /sbin/mkfs.ext4 -qF "${journal_option[@]}" "$work/image" && mount -o loop,noinit_itable "$work/image" "$disk"
  device=$(basename "$(findmnt -nro SOURCE "$disk")")
}
fresh_vault() {
  fresh_disk
  rm -rf "$work/vault" && ln -sfn "$disk/vault" "$work/vault"
  "$indrafs" init "$disk/vault" >/dev/null
  INDRAFS_VAULT=$disk/vault "$indrafs" mount "$work/indra" >/dev/null
}
gone() { unmount_target indrafs; for _ in $(seq 100); do umount "$disk" 2>/dev/null && return; sleep 0.1; done; fail "the vault is not let go"; }
# Bytes written to the device so far, once nothing is left to write.
written() {
  if mountpoint -q "$work/indra"; then
    for _ in $(seq 3000); do
      [[ $("$indrafs" --vault "$disk/vault" status --json | tr -d ' ') == *'"at_rest":true'* ]] && break
      sleep 0.2
    done
  fi
  sync -f "$disk"
  awk '{ printf "%.0f\n", $7 * 512 }' "/sys/block/$device/stat"
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
cold() { drop_caches; "$fsops" read "$1" | field mb_per_second; }

describe_machine
echo
echo "| what | versions | device bytes to bytes passed to write(2) | a second | vault to file | hash is b3sum's | cold read before, after, MB/s |"
echo "|---|---|---|---|---|---|---|"
for kind in ${kinds//,/ }; do
  [[ -z $sqlite_only ]] || break
  fresh_vault
  f=$work/indra/vault/f
  : >"$f"
  [[ $kind == on ]] || setfattr -n user.indra.versions -v off "$f"
  "$fsops" overwrite "$f" --size $((size << 20)) --count 1 >/dev/null
  start=$(written)
  before=$(cold "$f")
  rate=$("$fsops" overwrite "$f" --size $((size << 20)) --count "$count" | field per_second)
  bytes=$(($(written) - start))
  after=$(cold "$f")
  same=no
  [[ $(getfattr --absolute-names --only-values -n user.indra.hash "$f") != "$(b3sum --no-names "$f")" ]] || same=yes
  used=$(du -s --block-size=1 "$disk/vault" | cut -f1)
  echo "| $count overwrites of 4 KiB + fdatasync in $size MiB | $kind | $(ratio $bytes $((count * 4096))) | ${rate%.*} | $(ratio "$used" $((size << 20))) | $same | ${before%.*}, ${after%.*} |"
  gone
done
echo
echo "| SQLite, $transactions transactions, synchronous=FULL | versions | device bytes | to native |"
echo "|---|---|---|---|"
for journal in wal delete; do
  fresh_disk
  start=$(written)
  "$fsops" sqlite "$disk/db" --journal $journal --count "$transactions" >/dev/null
  native=$(($(written) - start))
  echo "| $journal | native | $native | |"
  umount "$disk"
  for kind in ${kinds//,/ }; do
    fresh_vault
    d=$work/indra/vault
    # What is made in the directory from now on, the database and its journals.
    [[ $kind == on ]] || setfattr -n user.indra.versions -v off "$d"
    start=$(written)
    "$fsops" sqlite "$d/db" --journal $journal --count "$transactions" >/dev/null
    bytes=$(($(written) - start))
    echo "| $journal | $kind | $bytes | $(ratio $bytes "$native") |"
    gone
  done
done
