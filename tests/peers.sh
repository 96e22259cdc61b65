#!/bin/bash
# Sees to the real programs that the end-to-end tests play against: installs them when it may
# (Debian or Ubuntu, root), says what to install when it may not. Their absence is no error here:
# the tests that need them say so.
set -euo pipefail

# Each is a command, then the Debian package that brings it.
peers=(
    jackd:jackd2
    jacktrip:jacktrip
    ip:iproute2
    openssl:openssl
    prometheus:prometheus
    promtool:prometheus
    ps:procps
)

missing=()
for peer in "${peers[@]}"; do
    command -v "${peer%%:*}" >/dev/null || missing+=("${peer##*:}")
done
# a library, which has no command
/sbin/ldconfig -p | grep libportaudio.so.2 >/dev/null || missing+=(libportaudio2)
if [ "${#missing[@]}" = 0 ]; then
    exit 0
fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "==> installing ${missing[*]} (apt)"
    exec "$(dirname "$0")/install.sh" "${missing[@]}"
fi
echo "==> missing for the end-to-end tests, which will be skipped: ${missing[*]}" >&2
echo "    Debian and Ubuntu: sudo apt-get install ${missing[*]}" >&2
