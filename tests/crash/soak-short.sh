#!/usr/bin/env bash
# A short form of soak.sh, for every build. INDRA_SOAK_SECONDS: how long (default 8).
export INDRA_SOAK_SECONDS=${INDRA_SOAK_SECONDS-8}
exec "$INDRA_SOURCE/tests/crash/soak.sh" 1 "${1:-1}"
