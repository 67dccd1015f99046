#!/usr/bin/env bash
# Checks the Spin model: as it is built, then with one rule left out at a time. A table goes to standard output.
#
#   docs/model/run.sh                 all of it but "both", in one to three minutes
#   docs/model/run.sh small NOHOLD    these scopes and mutants alone
#   docs/model/run.sh both            a node fault and a store fault in one run: minutes, and 5 GB of memory
#
# The exit status is 1 when a result is not the expected one, 2 when the tools are missing.
set -euo pipefail

model=$(cd "$(dirname "$0")" && pwd)/presence.pml
for tool in spin gcc; do
    command -v "$tool" >/dev/null || { echo "stillhere: the model needs $tool (on Debian: apt-get install spin gcc)" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# NAME, what it has, expected errors, flags of Spin
cases=(
    "small|no faults: connections come and go|0|-DNAMES=2"
    "line|late put, lost reply|0|-DLATE=1 -DLOST=1 -DNAMES=2"
    "node|node fault, late put|0|-DNODE_FAULTS=1 -DLATE=1 -DNAMES=3"
    "store|store fault, late put|0|-DSTORE_FAULTS=1 -DLATE=1 -DNAMES=3"
    "both|node fault and store fault|0|-DNODE_FAULTS=1 -DSTORE_FAULTS=1 -DNAMES=3"
    "NOFENCE|a fenced incarnation may write|1|-DNODE_FAULTS=1 -DNAMES=3"
    "NOCHANNEL|an older line may write|1|-DLATE=1 -DNAMES=2"
    "NOMAX|the newest window wins, not the longest|1|-DNODE_FAULTS=1 -DNAMES=3"
    "MARKLATE|marked after the join, whose reply is lost|1|-DNODE_FAULTS=1 -DLOST=1 -DNAMES=3"
    "NOHOLD|no recovery after a loss|1|-DSTORE_FAULTS=1 -DNAMES=3"
    "NOEPOCH|an empty store takes everything|1|-DSTORE_FAULTS=1 -DNAMES=3"
    "ENDEARLY|an emptied store ends its recovery early|1|-DSTORE_FAULTS=1 -DNAMES=3"
    "ASSERTEARLY|asserted before all is told|1|-DSTORE_FAULTS=1 -DNAMES=3"
    "FORGETFUL|an end of somebody forgotten has no window|1|-DSTORE_FAULTS=1 -DNAMES=3"
    "NOAWAIT|only who says hello is awaited|1|-DSTORE_FAULTS=1 -DNAMES=3"
)

check() { # NAME, expected errors, flags: prints errors, states, seconds, MiB
    local name=$1 flags=$2 dir=$work/$1
    mkdir "$dir" && cd "$dir"
    # shellcheck disable=SC2086
    spin -a $flags $([ "$name" = "${name^^}" ] && echo "-D$name") "$model" >spin.out 2>&1 || { cat spin.out >&2; exit 2; }
    gcc -O1 -w -DSAFETY -DNOREDUCE -DMEMLIM=8192 -DVECTORSZ=512 -o pan pan.c
    timeout 900 ./pan -m100000 -w24 >pan.out 2>&1 || true
    awk '
        /errors:/ { errors = $NF }
        /states, stored/ { states = $1 }
        /elapsed time/ { seconds = $4 }
        /total actual memory/ { memory = $1 }
        /Search not completed|search depth too small|reached -DMEMLIM/ { cut = 1 }
        END { print (errors == "" || (cut && errors == 0) ? "?" : errors), states + 0, seconds + 0, memory + 0 }' pan.out
}

printf '| %-12s | %-43s | %9s | %11s | %7s | %5s |\n' scope what result states seconds MiB
printf '|%s|%s|%s|%s|%s|%s|\n' -------------- --------------------------------------------- ----------: ------------: --------: ------:
status=0
for entry in "${cases[@]}"; do
    IFS='|' read -r name what expected flags <<<"$entry"
    if [ $# -eq 0 ]; then [ "$name" != both ] || continue; else [[ " $* " == *" $name "* ]] || continue; fi
    read -r errors states seconds memory < <(check "$name" "$flags")
    result=holds
    [ "$errors" = 0 ] || result=refuted
    [ "$errors" != "?" ] || result=unknown
    [ "$errors" = "$expected" ] || { result="$result!"; status=1; }
    printf "| %-12s | %-43s | %9s | %'11d | %7.1f | %5.0f |\n" "$name" "$what" "$result" "$states" "$seconds" "$memory"
done
[ $status -eq 0 ] || echo "stillhere: a result that ends in ! is not the expected one" >&2
exit $status
