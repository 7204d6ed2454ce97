#!/usr/bin/env bash
# How long a request waits while the vault is busy: p50 and p99 of stat of a name never asked for before (so that the kernel
# cannot answer it), and of open + read 4 KiB + close, while nothing else runs, while files come in, while the database is
# checkpointed, while a large tree is deleted.
#
#   bench/latency.sh [--seconds N] [--indrafs BIN] [--indrafs-options "..."] [--passthrough BIN] [--fsops BIN] [--work DIR]
#                    [--only native,indrafs] [--rate R]
#
# Probes run at most --rate (500) times a second, so that they measure waiting and not themselves.
set -euo pipefail
# shellcheck source=bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

secs=10 only='' rate=500
while (($#)); do
  case $1 in
    --seconds) secs=$2; shift ;;
    --rate) rate=$2; shift ;;
    --indrafs) indrafs=$2; shift ;;
    --indrafs-options) indrafs_options=$2; shift ;;
    --passthrough) passthrough=$2; shift ;;
    --passthrough-options) passthrough_options=$2; shift ;;
    --fsops) fsops=$2; shift ;;
    --work) work=$2; shift ;;
    --only) only=$2; shift ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "No option $1; see --help" ;;
  esac
  shift
done
setup_work
"$fsops" tree "$work/tree" --files 11000 --size 146000000 --dirs 700 >/dev/null
for target in "${targets[@]}"; do mount_target "$target"; done

# Work that goes on until it is killed.
busy_idle() { sleep 1000; }
busy_import() { local i; for ((i = 0; ; i++)); do cp -r "$work/tree" "$2/import-$i"; rm -rf "$2/import-$((i - 1))"; done; }
busy_checkpoint() {
  # Small fsynced changes fill the WAL; `indrafs sync` and the checkpointer empty it. Elsewhere: the same fsyncs.
  local i
  for ((i = 0; ; i++)); do
    "$fsops" create "$2/wal-$i" --count 2000 --size 512 --jobs 4 >/dev/null
    [[ $1 != indrafs ]] || INDRAFS_VAULT=$work/vault "$indrafs" sync >/dev/null 2>&1 || true
  done
}
busy_delete() { rm -rf "$2"/doomed-*; sleep 1000; }

echo "$(describe_machine)"
echo
echo "p50 / p99 in us, $secs s each, at most $rate probes a second."
echo
echo "| target | probe | idle | import | checkpoint | large delete |"
echo "|---|---|---|---|---|---|"
for target in "${targets[@]}"; do
  dir=$(dir_of "$target")
  "$fsops" create "$dir/probe" --count 1000 --size 4096 >/dev/null
  stat_cells='' open_cells=''
  for situation in idle import checkpoint delete; do
    if [[ $situation == delete ]]; then
      rm -rf "$dir"/import-* "$dir"/wal-*
      # passthrough_hp holds a descriptor for each file: one tree is what it can bear
      for i in 1 2 3 4; do [[ $target == passthrough && $i != 1 ]] || cp -r "$work/tree" "$dir/doomed-$i"; done
      drop_caches
    fi
    sync
    sleep 2
    set -m  # a process group of its own, so that the whole of it can be ended
    "busy_$situation" "$target" "$dir" >/dev/null 2>&1 &
    background_pid=-$!
    set +m
    sleep 0.3
    "$fsops" absent "$dir/probe" --count 100000000 --seconds "$secs" --rate "$rate" >"$work/absent.json" &
    probe=$!
    "$fsops" open-read-close "$dir/probe" --files 1000 --count 100000000 --seconds "$secs" --rate "$rate" >"$work/open.json"
    wait "$probe"
    kill -- "$background_pid" 2>/dev/null || true
    wait "${background_pid#-}" 2>/dev/null || true
    background_pid=''
    cell() { printf ' %.0f / %.0f |' "$(field p50_us <"$1")" "$(field p99_us <"$1")"; }
    stat_cells+=$(cell "$work/absent.json")
    open_cells+=$(cell "$work/open.json")
  done
  echo "| $target | stat, new name |$stat_cells"
  echo "| $target | open, read, close |$open_cells"
  rm -rf "$dir"/import-* "$dir"/wal-* "$dir"/doomed-*
done
