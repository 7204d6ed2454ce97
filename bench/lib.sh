# Shared by compare.sh and latency.sh: the targets (native, passthrough, indrafs), mounted under one work directory.
# Everything made here is unmounted and removed when the script ends, however it ends.
fail() { printf '%s\n' "$*" >&2; exit 2; }
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work='' passthrough='' passthrough_options='' indrafs=$source_dir/build/release/bin/indrafs
fsops=$source_dir/build/release/bin/fsops indrafs_options='' pt_pid='' prefix=''

setup_work() {
  [[ -x $fsops ]] || fail "No $fsops: cmake --preset release && cmake --build --preset release --target fsops"
  work=$(mktemp -d "${work:-${TMPDIR:-/var/tmp}}/indra-bench.XXXXXX")
  trap finish EXIT
  trap 'exit 130' INT TERM
  mkdir -p "$work"/{native,pt-back,pt,vault,indra}
  if [[ -n $passthrough && ! -x $passthrough ]]; then fail "--passthrough: $passthrough is no program"; fi
  targets=(native)
  if [[ -n $passthrough ]]; then targets+=(passthrough); else
    echo "passthrough_hp: left out, no --passthrough BIN was given." >&2; fi
  if [[ -x $indrafs ]]; then targets+=(indrafs); else echo "IndraFS: left out, it is not built ($indrafs)." >&2; fi
  if [[ -n $only ]]; then
    local keep=() t
    for t in "${targets[@]}"; do [[ ,$only, == *,$t,* ]] && keep+=("$t"); done
    targets=("${keep[@]}")
  fi
}

# The directory of a target in which to work.
dir_of() {
  case $1 in
    native) echo "$work/native" ;;
    passthrough) echo "$work/pt" ;;
    indrafs) echo "$work/indra/vault" ;;
  esac
}

mount_target() {
  case $1 in
    native) ;;
    passthrough)
      # It holds a descriptor for each inode it knows.
      ulimit -n 1000000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
      # shellcheck disable=SC2086
      "$passthrough" --foreground $passthrough_options "$work/pt-back" "$work/pt" >"$work/passthrough.log" 2>&1 &
      pt_pid=$!
      for _ in $(seq 100); do mountpoint -q "$work/pt" && return; sleep 0.05; done
      cat "$work/passthrough.log" >&2; fail "passthrough_hp does not mount" ;;
    indrafs)
      [[ -e $work/vault/vault.db ]] || "$indrafs" init "$work/vault" >"$work/indrafs.log" 2>&1 ||
        { cat "$work/indrafs.log" >&2; fail "indrafs makes no vault"; }
      # shellcheck disable=SC2086
      INDRAFS_VAULT=$work/vault "$indrafs" mount $indrafs_options "$work/indra" >"$work/indrafs.log" 2>&1 ||
        { cat "$work/indrafs.log" >&2; fail "indrafs does not mount"; } ;;
  esac
}

unmount_target() {
  case $1 in
    native) ;;
    passthrough)
      mountpoint -q "$work/pt" || return 0
      fusermount3 -u "$work/pt" || umount -l "$work/pt"
      [[ -z $pt_pid ]] || wait "$pt_pid" 2>/dev/null || true ;;
    indrafs)
      mountpoint -q "$work/indra" || return 0
      INDRAFS_VAULT=$work/vault "$indrafs" unmount "$work/indra" >/dev/null || umount -l "$work/indra" ;;
  esac
}

finish() {
  local status=$?
  trap - EXIT INT TERM
  [[ -z ${background_pid-} ]] || kill -- "$background_pid" 2>/dev/null || true
  cd /
  for t in passthrough indrafs; do unmount_target "$t" 2>/dev/null || true; done
  if grep -q " $work/" /proc/self/mountinfo; then
    echo "Still mounted, left as it is: $work" >&2
  else
    rm -rf --one-file-system "$work"
  fi
  exit "$status"
}

# Writes back what is dirty and, as root, empties the kernel's caches.
drop_caches() {
  sync
  if ((EUID == 0)); then echo 3 >/proc/sys/vm/drop_caches; fi
}

field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }  # of fsops' output

# Seconds that a command takes; nothing when it fails.
seconds() {
  local start=$EPOCHREALTIME
  "$@" >/dev/null || return 1
  local end=$EPOCHREALTIME
  awk -v a="$start" -v b="$end" 'BEGIN { printf "%.4f\n", b - a }'
}

describe_machine() {
  local model kernel system
  model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  kernel=$(uname -r | cut -d- -f1)
  system=$(. /etc/os-release && echo "$PRETTY_NAME")
  echo "$(date -u +%F); $(nproc) x $model; $(awk '/MemTotal/{printf "%.0f GiB", $2 / 1048576}' /proc/meminfo); Linux $kernel; $system;"
  echo "work directory on $(findmnt -nro FSTYPE --target "$work" | tail -n 1); load before: $(cut -d' ' -f1-3 /proc/loadavg)."
  if [[ -n $passthrough ]]; then echo "passthrough_hp options: \`${passthrough_options:-(its defaults)}\`."; fi
  if [[ -x $indrafs ]]; then echo "IndraFS: $("$indrafs" --version 2>/dev/null | head -n 1), options: \`${indrafs_options:-(its defaults)}\`."; fi
}
