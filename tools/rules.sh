#!/usr/bin/env bash
# Whether a test notices when a rule of the session or of the exchange is gone: each is removed in a copy of the sources.
#
#   tools/rules.sh [TEXT]
#
# With TEXT only the rules of tools/rules.txt whose block contains it: a section, a file, a word. A removal that does not
# fit the sources any more, or does not compile, is an error as well. The first run compiles for minutes.
set -uo pipefail
cd "$(dirname "$0")/.."

only=${1-} copy=target/rules removed=0 faults=0
declare -A passed=()
export CARGO_TARGET_DIR=$PWD/target/rules-build CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TERM_COLOR=never
# Few random cases: what a rule forbids is tried by a test of its own.
export PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 PROPTEST_CASES=16

# Compiles the tests that are about a file, or runs them: `tests FILE [--no-run]`.
tests() {
    local file=$1 limit=
    shift
    # What hangs without a rule has noticed.
    (($#)) || limit='timeout 1200'
    case $file in
        framing/*) set -- -p farref-framing --tests "$@" ;;
        netref/*) set -- -p farref-netref --lib exchange::tests "$@" ;;
        services/*) set -- -p farref-services --lib sessions "$@" ;;
    esac
    (cd "$copy" && $limit cargo test --locked --quiet "$@") </dev/null >"$copy/log" 2>&1
}

# Replaces the one text `$2` of the file `$1` by `$3`.
replace() {
    local content rest
    content=$(<"$1")
    rest=${content#*"$2"}
    if [[ $rest == "$content" || $rest == *"$2"* ]]; then
        return 1
    fi
    printf '%s\n' "${content/"$2"/"$3"}" >"$1"
}

# Removes the rule `$1` from the file `$2`: the texts in `from` give way to those in `to`.
remove() {
    local rule=$1 file=$2 at
    # Otherwise nothing follows from a test that fails.
    if [[ ! -v passed[${file%%/*}] ]]; then
        passed[${file%%/*}]=true
        if ! { tests "$file" --no-run && tests "$file"; }; then
            cat "$copy/log"
            echo "with all rules the tests of $file fail"
            exit 1
        fi
    fi
    removed=$((removed + 1))
    for at in "${!from[@]}"; do
        if ! replace "$copy/$file" "${from[at]}" "${to[at]}"; then
            fault "$rule" "this is not there once in $file: ${from[at]}"
            cp "$file" "$copy/$file"
            return
        fi
    done
    if ! tests "$file" --no-run; then
        fault "$rule" "it does not compile without it: $(grep -m1 '^error' "$copy/log")"
    elif tests "$file"; then
        fault "$rule" "no test notices that it is gone"
    else
        echo "$rule: $(sed -n 's/^    \([a-z0-9_:]*\)$/\1/p' "$copy/log" | head -1)"
    fi
    cp "$file" "$copy/$file"
}

fault() {
    echo "$1: FAULT: $2"
    faults=$((faults + 1))
}

# Each rule that a model can switch off is switched off by a test.
for rule in $(sed -n '/^pub(crate) enum Rule/,/^}/s/^    \([A-Z][A-Za-z]*\),$/\1/p' netref/src/exchange/rules.rs); do
    grep -rq "Rule::$rule\b" netref/src/exchange/model/tests.rs netref/src/exchange/tests ||
        fault "Rule::$rule" "no test switches it off"
done

rm -rf "$copy"
mkdir -p "$copy"
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents --target-directory="$copy"

rule='' file='' from=() to=() last=''
while IFS= read -r line || [[ $last ]]; do
    case $line in
        '# '*) rule=${line#\# } ;;
        '< '*)
            if [[ $last == '<' ]]; then
                from[-1]+=$'\n'${line#< }
            else
                from+=("${line#< }")
            fi
            last='<'
            ;;
        '> '*)
            if [[ $last == '>' ]]; then
                to[-1]+=$'\n'${line#> }
            else
                to+=("${line#> }")
            fi
            last='>'
            ;;
        '')
            if ((${#from[@]})) && [[ "$rule $file ${from[*]}" == *"$only"* ]]; then
                remove "$rule" "$file"
            fi
            rule='' from=() to=() last=''
            ;;
        *) file=$line ;;
    esac
done <tools/rules.txt

printf '\n%d rules removed, %d faults\n' "$removed" "$faults"
((faults == 0))
