#!/usr/bin/env bash
# Brings what the tests need beside cargo: an ssh server and client, and the login shells that accounts
# over there may have. Does nothing where they are there.
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
((${#missing[@]})) || exit 0

if [[ $(id -u) != 0 ]] || ! has apt-get; then
    echo "the tests need ${missing[*]}: install them, or run this as root where there is apt-get" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# The lists may be there already, and without a network they cannot be had anyway.
apt-get install -y --no-install-recommends "${missing[@]}" ||
    { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }
