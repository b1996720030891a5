#!/usr/bin/env bash
# What is worth running now and then and needs tools that must be compiled first.
#
#   tools/deep-checks.sh [--install] [--seconds N] [--since COMMIT] [STEP...]
#
#   deny      advisories, licences and sources of all dependencies (cargo-deny, deny.toml)
#   hack      each feature of each package alone (cargo-hack)
#   loom      every interleaving of what threads share (needs nothing)
#   fuzz      each decoder, N seconds each, 60 unless said otherwise (cargo-fuzz)
#   coverage  which lines the tests reach (cargo-llvm-cov)
#   mutants   whether the tests notice mistakes in what changed since COMMIT, HEAD~1 unless said otherwise (cargo-mutants)
#
# Without steps: all of them. A step whose tool is missing is skipped; --install installs it first.
set -uo pipefail
cd "$(dirname "$0")/.."

install=false seconds=60 since=HEAD~1 steps=()
while (($#)); do
    case $1 in
        --install) install=true ;;
        --seconds) seconds=${2:?--seconds wants a number} && shift ;;
        --since) since=${2:?--since wants a commit} && shift ;;
        deny | hack | loom | fuzz | coverage | mutants) steps+=("$1") ;;
        *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
    shift
done
((${#steps[@]})) || steps=(deny hack loom fuzz coverage mutants)

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

fuzz() {
    tool cargo-fuzz || return 77
    local target outcome=0
    for target in $(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml); do
        echo "-- $target, $seconds seconds"
        # Without a sanitizer: there is no unsafe code to watch, and the stable compiler will do.
        cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=5 \
            -print_final_stats=1 || outcome=1
    done
    return $outcome
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
