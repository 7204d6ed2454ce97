#!/usr/bin/env bash
# The same workloads on the native file system, on passthrough_hp and on IndraFS, in turns; prints medians and ratios.
#
#   bench/compare.sh [--rounds N] [--passthrough BIN] [--passthrough-options "..."] [--indrafs BIN]
#                    [--indrafs-options "..."] [--fsops BIN] [--work DIR] [--only native,indrafs]
#                    [--workloads REGEX] [--tree-files N] [--quick] [--raw FILE]
#
# passthrough_hp needs a descriptor for each file it knows: where the hard limit (ulimit -Hn) is below 30,000, its cp -r of
# 11,000 files fails and is shown as "-"; --tree-files 8000 makes it fit.
#
# As root the kernel's caches are dropped before each workload that is not called warm. passthrough_hp is the example
# program of libfuse: the native file system behind FUSE, and nothing else. Work directory: not on tmpfs.
set -euo pipefail
# shellcheck source=bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tree_files_asked='' rounds=3 only='' pattern=. quick=0 raw=''
while (($#)); do
  case $1 in
    --rounds) rounds=$2; shift ;;
    --passthrough) passthrough=$2; shift ;;
    --passthrough-options) passthrough_options=$2; shift ;;
    --indrafs) indrafs=$2; shift ;;
    --indrafs-options) indrafs_options=$2; shift ;;
    --fsops) fsops=$2; shift ;;
    --work) work=$2; shift ;;
    --only) only=$2; shift ;;
    --workloads) pattern=$2; shift ;;
    --tree-files) tree_files_asked=$2; shift ;;
    --quick) quick=1 ;;
    --raw) raw=$2; shift ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "No option $1; see --help" ;;
  esac
  shift
done
files=10000 tree_files=11000 tree_bytes=146000000 tree_dirs=700 repo_files=5500 repo_bytes=48000000 big_mib=1024 huge_mib=4096
stats=100000 opens=20000 syncs=1000 tx=1000 renames=200
if ((quick)); then
  files=1000 tree_files=1000 tree_bytes=14000000 tree_dirs=70 repo_files=500 repo_bytes=4000000 big_mib=128 huge_mib=256
  stats=20000 opens=4000 syncs=200 tx=200 renames=50
fi
if [[ -n $tree_files_asked ]]; then tree_bytes=$((tree_bytes / tree_files * tree_files_asked)) tree_files=$tree_files_asked; fi
setup_work
results=$work/results

# What the workloads start from, made on the native file system, new in each round: a file system that finds equal content
# must find it only where the workload itself makes copies (cp -r).
make_sources() {
  rm -rf "$work/tree" "$work/repo" "$work/tree.tar"
  "$fsops" tree "$work/tree" --files $tree_files --size $tree_bytes --dirs $tree_dirs --seed "$1" >/dev/null
  tar -C "$work" -cf "$work/tree.tar" tree
  "$fsops" tree "$work/repo" --files $repo_files --size $repo_bytes --dirs 400 --seed "$((1000 + $1))" >/dev/null
  git -C "$work/repo" init -q
  git -C "$work/repo" add -A
  git -C "$work/repo" -c user.name=bench -c user.email=bench@localhost commit -qm tree
}

# Each workload: w_NAME TARGET DIR ROUND prints its value. `order` gives what later ones build on.
ops() { "$fsops" "$@" | field per_second; }
mbs() { "$fsops" "$@" | field mb_per_second; }
w_create_j1() { ops create "$2/create1-$3" --count $files --size 4096 --jobs 1; }
w_create_j8() { ops create "$2/create8-$3" --count $files --size 4096 --jobs 8; }
w_untar() { mkdir -p "$2/untar-$3"; seconds tar -C "$2/untar-$3" -xf "$work/tree.tar"; }
w_cp_r() { seconds cp -r "$2/untar-$3" "$2/copy-$3"; }
w_clone() { seconds git clone -q --no-hardlinks "$work/repo" "$2/clone-$3"; }
w_ls_warm() { ls -lR "$2/untar-$3" >/dev/null; seconds ls -lR "$2/untar-$3"; }
w_rm_rf() { seconds rm -rf "$2/copy-$3"; }
w_stat_warm() { ops stat "$2/create1-$3" --files 1000 --count 1000 >/dev/null; ops stat "$2/create1-$3" --files 1000 --count $stats; }
w_open_warm() { ops open-read-close "$2/create1-$3" --files 1000 --count 1000 >/dev/null; ops open-read-close "$2/create1-$3" --files 1000 --count $opens; }
w_write_hash() {
  local file=$2/big-$3
  write_and_hash() {
    "$fsops" write "$file" --size $((big_mib << 20)) >/dev/null
    if [[ $1 == indrafs ]]; then getfattr -n user.indra.hash "$file" >/dev/null 2>&1; fi
  }
  seconds write_and_hash "$1" | awk -v mib=$big_mib '{ printf "%.0f\n", mib * 1.048576 / $1 }'
}
w_read_cold() {
  if [[ $1 == indrafs ]]; then unmount_target indrafs; drop_caches; mount_target indrafs; fi
  mbs read "$2/big-$3"
  rm -f "$2/big-$3"
}
w_fsync_100m() { ops overwrite "$2/over100" --size $((100 << 20)) --count $syncs; }
w_fsync_huge() { ops overwrite "$2/over-huge" --size $((huge_mib << 20)) --count $syncs; }
w_sqlite_wal() { ops sqlite "$2/wal-$3.db" --journal WAL --count $tx; }
w_sqlite_delete() { ops sqlite "$2/delete-$3.db" --journal DELETE --count $tx; }
w_rename_dir() { "$fsops" rename "$2/rename-$3" --count $renames | field p50_us; }

# name | what | unit | more is better | caches dropped before
order=(
  "create_j1|create $files files of 4 KiB|files/s|1|1"
  "create_j8|the same, 8 at a time|files/s|1|1"
  "stat_warm|stat, warm|/s|1|0"
  "open_warm|open, read 4 KiB, close, warm|/s|1|0"
  "untar|untar $tree_files files, $((tree_bytes / 1000000)) MB|s|0|1"
  "ls_warm|ls -lR of them, warm|s|0|0"
  "cp_r|cp -r of them|s|0|1"
  "rm_rf|rm -rf of the copy|s|0|1"
  "clone|git clone of $repo_files files|s|0|1"
  "write_hash|sequential write of $big_mib MiB, hash included|MB/s|1|1"
  "read_cold|sequential read of it, cold|MB/s|1|1"
  "fsync_100m|4 KiB overwrite + fdatasync in 100 MiB|/s|1|1"
  "fsync_huge|4 KiB overwrite + fdatasync in $huge_mib MiB|/s|1|1"
  "sqlite_wal|SQLite, WAL, synchronous=FULL|tx/s|1|1"
  "sqlite_delete|SQLite, DELETE journal, synchronous=FULL|tx/s|1|1"
  "rename_dir|rename of a directory of 2,000, p50|us|0|0"
)

for target in "${targets[@]}"; do mount_target "$target"; done
for ((round = 1; round <= rounds; round++)); do
  make_sources "$round"
  for line in "${order[@]}"; do
    IFS='|' read -r name what unit more cold <<<"$line"
    [[ $name =~ $pattern ]] || continue
    for target in "${targets[@]}"; do
      ((cold)) && drop_caches
      if ! value=$("w_$name" "$target" "$(dir_of "$target")" "$round" 2>>"$work/errors") || [[ -z $value ]]; then
        echo "$name on $target failed: $(tail -n 1 "$work/errors")" >&2
        value=nan
      fi
      printf '%s\t%s\t%s\n' "$name" "$target" "$value" >>"$results"
      printf 'round %d  %-14s %-12s %s %s\n' "$round" "$name" "$target" "$value" "$unit" >&2
    done
  done
done
[[ -z $raw ]] || cp "$results" "$raw"

echo "Medians of $rounds rounds in turns. $(describe_machine)"
echo
echo "The ratios say how many times as fast IndraFS is; below 1 it is slower."
echo
echo "| what | unit | native | passthrough_hp | IndraFS | to native | to passthrough_hp |"
echo "|---|---|---|---|---|---|---|"
median() {
  awk -F'\t' -v n="$1" -v t="$2" '$1 == n && $2 == t && $3 != "nan" { print $3 }' "$results" | sort -g |
    awk '{ v[NR] = $1 } END { if (NR) printf "%g\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
for line in "${order[@]}"; do
  IFS='|' read -r name what unit more cold <<<"$line"
  [[ $name =~ $pattern ]] || continue
  awk -v what="$what" -v unit="$unit" -v more="$more" -v n="$(median "$name" native)" \
    -v p="$(median "$name" passthrough)" -v i="$(median "$name" indrafs)" '
    function show(x) { return x == "" ? "-" : x >= 100 ? sprintf("%.0f", x) : sprintf("%.3g", x) }
    function ratio(i, o) { return i == "" || o == "" || i == 0 || o == 0 ? "-" : sprintf("%.2f", more ? i / o : o / i) }
    BEGIN { printf "| %s | %s | %s | %s | %s | %s | %s |\n", what, unit, show(n), show(p), show(i), ratio(i, n), ratio(i, p) }'
done
