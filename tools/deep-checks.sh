#!/usr/bin/env bash
# What is worth running now and then and needs tools that must be compiled first.
#
#   tools/deep-checks.sh [--install] [--seconds N] [--since COMMIT] [--keep] [STEP...]
#
#   deny      advisories, licences and sources of all dependencies (cargo-deny, deny.toml)
#   hack      each feature of each package alone (cargo-hack)
#   loom      every interleaving of what threads share (needs nothing)
#   rules     whether a test notices when a rule of session or exchange is gone (tools/rules.sh; needs nothing)
#   soak      calls without end over sessions that are cut and move, ten minutes long (needs nothing)
#   fuzz      each decoder, N seconds each, 60 unless said otherwise (cargo-fuzz); --keep makes new seeds of what was found
#   coverage  which lines the tests reach (cargo-llvm-cov)
#   mutants   whether the tests notice mistakes in what changed since COMMIT, HEAD~1 unless said otherwise (cargo-mutants)
#
# Without steps: all of them. A step whose tool is missing is skipped; --install installs it first.
set -uo pipefail
cd "$(dirname "$0")/.."

install=false keep=false seconds=60 since=HEAD~1 steps=()
while (($#)); do
    case $1 in
        --install) install=true ;;
        --keep) keep=true ;;
        --seconds) seconds=${2:?--seconds wants a number} && shift ;;
        --since) since=${2:?--since wants a commit} && shift ;;
        deny | hack | loom | rules | soak | fuzz | coverage | mutants) steps+=("$1") ;;
        *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
    shift
done
((${#steps[@]})) || steps=(deny hack loom rules soak fuzz coverage mutants)

skipped=() failed=()

# Whether a tool is there, or can be had: `tool cargo-deny`.
tool() {
    command -v "$1" >/dev/null && return
    if $install; then
        cargo install --locked "$1" && return
        echo "skipped: $1 could not be installed"
    else
        echo "skipped: $1 is not installed (--install does that)"
    fi
    return 1
}

# Exit codes of a step: 0 passed, 1 failed, 77 skipped.

deny() {
    tool cargo-deny || return 77
    cargo deny --locked check licenses bans sources || return
    # The list of advisories is fetched, or lies there from the last time.
    if ! cargo deny --locked fetch db 2>/dev/null; then
        echo "skipped: the list of advisories cannot be fetched from here; licences, bans and sources are fine"
        return 77
    fi
    cargo deny --locked check advisories
}

hack() {
    tool cargo-hack || return 77
    cargo hack check --locked --workspace --lib --each-feature
}

loom() {
    # A folder of its own: everything is built with the flag.
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg farref_loom" \
        cargo test --locked --package farref-netref --test loom --release interleavings
}

rules() {
    tools/rules.sh
}

soak() {
    cargo run --locked --release --package farref-integration-tests --bin soak -- --minutes 10
}

fuzz() {
    tool cargo-fuzz || return 77
    local target corpus least outcome=0
    for target in $(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml); do
        echo "-- $target, $seconds seconds"
        corpus=fuzz/corpus/$target least=fuzz/corpus/$target.least
        unpack "fuzz/seeds/$target.hex" "$corpus"
        # Without a sanitizer: there is no unsafe code to watch, and the stable compiler will do.
        cargo fuzz run --sanitizer none "$target" "$corpus" -- -max_total_time="$seconds" -rss_limit_mb=1024 \
            -timeout=5 -print_final_stats=1 || outcome=1
        if $keep; then
            # Of those few that reach all that is reached about a hundred, short ones and longer ones.
            rm -rf "$least" && mkdir "$least"
            cargo fuzz run --sanitizer none "$target" "$least" "$corpus" -- -set_cover_merge=1 -max_len=64 &&
                pack "$least" "fuzz/seeds/$target.hex"
            rm -rf "$least"
        fi
    done
    return $outcome
}

# Seeds are kept one to a line, in hexadecimal digits: `unpack FILE DIRECTORY`, `pack DIRECTORY FILE`.
unpack() {
    local line number=0
    mkdir -p "$2"
    while read -r line; do
        printf '%b' "$(sed 's/../\\x&/g' <<<"$line")" >"$2/seed-$((number += 1))"
    done <"$1"
}

pack() {
    local seed step
    step=$(($(ls "$1" | wc -l) / 100 + 1))
    for seed in "$1"/*; do
        od -An -v -tx1 "$seed" | tr -d ' \n'
        echo
    done | awk '/./ { print length, $0 }' | sort -n | awk "NR % $step == 0 { print \$2 }" | LC_ALL=C sort -u >"$2"
}

coverage() {
    tool cargo-llvm-cov || return 77
    cargo llvm-cov --locked --workspace --summary-only
}

mutants() {
    tool cargo-mutants || return 77
    if ! git rev-parse --quiet --verify "$since^{commit}" >/dev/null; then
        echo "skipped: there is no commit $since to compare with (--since says which)"
        return 77
    fi
    git diff "$since" >target/mutants.diff
    cargo mutants --in-diff target/mutants.diff --output target
}

for step in "${steps[@]}"; do
    printf '\n== %s\n' "$step"
    "$step"
    case $? in
        0) ;;
        77) skipped+=("$step") ;;
        *) failed+=("$step") ;;
    esac
done

printf '\n%d run, %d skipped%s, %d failed%s\n' "$((${#steps[@]} - ${#skipped[@]}))" \
    "${#skipped[@]}" "${skipped[*]:+ (${skipped[*]})}" "${#failed[@]}" "${failed[*]:+ (${failed[*]})}"
((${#failed[@]} == 0))
