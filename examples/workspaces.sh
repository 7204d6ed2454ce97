#!/usr/bin/env bash
# The example runs, and leaves a vault in which everything is as it must be.
. "$INDRA_SOURCE/tests/cli/common.sh"
expect 0 "$INDRA_BIN/workspaces" "$INDRAFS_VAULT"
[[ $(grep -c conflict: out) == 9 ]] || { cat out; die "not nine conflicts"; }
expect 0 $i fsck
expect 0 $i branch list
[[ $(grep -c worker out) == 0 ]] || { cat out; die "a workspace is left"; }
expect 0 $i ls :/
[[ $(grep -c '(conflict worker-' out) == 9 ]] || { cat out; die "not nine answers beside the first"; }
