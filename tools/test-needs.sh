#!/usr/bin/env bash
# Brings what the tests need beside cargo: an ssh server and client, the login shells that accounts over
# there may have, and the Python peers (tools/python-peers.sh). Does nothing where they are there.
#
#   tools/test-needs.sh
#
# Ends with 1, and says what to install, where it may not or cannot install them itself.
set -euo pipefail

has() { PATH=$PATH:/usr/sbin:/usr/local/sbin:/sbin command -v "$1" >/dev/null; }

missing=()
has sshd || missing+=(openssh-server)
has ssh && has ssh-keygen || missing+=(openssh-client)
for shell in busybox dash fish ksh tcsh zsh; do
    has "$shell" || missing+=("$shell")
done
# A Python may be there without the means to make an environment.
has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]})); then
    if [[ $(id -u) != 0 ]] || ! has apt-get; then
        echo "the tests need ${missing[*]}: install them, or run this as root where there is apt-get" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # The lists may be there already, and without a network they cannot be had anyway.
    apt-get install -y --no-install-recommends "${missing[@]}" ||
        { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }
fi

"$(dirname "$0")/python-peers.sh"
