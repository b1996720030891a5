#!/usr/bin/env bash
# Makes the Python peers of the tests: one virtual environment for each version of RPyC that they speak
# with. Does nothing where they are there.
#
#   tools/python-peers.sh
#
# They are made in $FARREF_PYTHON_PEERS, or in .python-peers beside the workspace's Cargo.toml.
# Ends with 1 where one of them cannot be made.
set -euo pipefail

cd "$(dirname "$0")/.."
peers=${FARREF_PYTHON_PEERS:-.python-peers}
versions=(4.1.5 5.3.1 6.0.2)
# All that RPyC needs. Newer ones have dependencies of their own.
plumbum=1.9.0

# Asks the peer itself: its Python may have gone since, or it was left half made.
works() {
    "$peers/$1/bin/python" - "$1" "$plumbum" <<'END' 2>/dev/null
import sys, plumbum, rpyc
sys.exit([".".join(map(str, rpyc.version.version)), plumbum.__version__] != sys.argv[1:])
END
}

make() {
    rm -rf "${peers:?}/$1"
    python3 -m venv "$peers/$1" &&
        "$peers/$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
            "rpyc==$1" "plumbum==$plumbum" &&
        works "$1"
}

for version in "${versions[@]}"; do
    works "$version" || make "$version" || make "$version" || {
        # Half made, it would be taken for one by the tests, which do without where there is none.
        rm -rf "${peers:?}/$version"
        echo "no Python peer with RPyC $version could be made in $peers" >&2
        exit 1
    }
done
