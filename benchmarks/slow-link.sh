#!/usr/bin/env bash
# Small calls beside endless bulk on a link of 100 Mbit/s between two network namespaces. Needs root, ip and tc.
#
#   slow-link.sh [ADDRESS...]     addresses with HOST for the far side and KEY for its key
#                           (default: plain TCP, TCP and QUIC)
set -euo pipefail
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- plain+tcp://HOST:7000 tcp://HOST:7001#KEY quic://HOST:7002#KEY
cargo build --quiet --release --bin beside
program="${CARGO_TARGET_DIR:-target}/release/beside"

# Both sides have one key, and let it in.
FARREF_HOME="$(mktemp -d)"
export FARREF_HOME
key="$("$program" key)"
echo "$key" > "$FARREF_HOME/authorized_peers"
chmod 600 "$FARREF_HOME/authorized_peers"

near="farref-near-$$" far="farref-far-$$"
cleanup() {
    kill "${server:-}" 2>/dev/null || true
    ip netns delete "$near" 2>/dev/null || true
    ip netns delete "$far" 2>/dev/null || true
    rm -rf "$FARREF_HOME"
}
trap cleanup EXIT
ip netns add "$near"
ip netns add "$far"
ip link add near netns "$near" type veth peer name far netns "$far"
ip -n "$near" address add 10.77.0.1/24 dev near
ip -n "$far" address add 10.77.0.2/24 dev far
for end in near far; do
    ip -n "farref-$end-$$" link set lo up
    ip -n "farref-$end-$$" link set "$end" up
    ip netns exec "farref-$end-$$" tc qdisc add dev "$end" root tbf rate 100mbit burst 64k latency 20ms
done

echo "| address | p50 | p95 | p99 | bulk | calls |"
echo "|---|--:|--:|--:|--:|--:|"
for address in "$@"; do
    address="${address//HOST/10.77.0.2}"
    ip netns exec "$far" "$program" serve "${address%#*}" &
    server=$!
    sleep 1 # until it listens
    ip netns exec "$near" "$program" call "${address//KEY/$key}"
    kill "$server" && wait "$server" 2>/dev/null || true
done
