#!/usr/bin/env bash
# Says clearly what is missing on this machine, and installs it where that is possible without asking.
#
#   scripts/need.sh python        Python 3.11 or newer with venv ($PYTHON, else python3)
#   scripts/need.sh node          Node 20.19 or newer with npm
#   scripts/need.sh test-tools    redis-server and chromium, through apt-get where we may; firefox-esr where there is one
#   scripts/need.sh model         spin and gcc, the same way
#   scripts/need.sh cluster-demo  redis-server and haproxy, the same way
#   scripts/need.sh bench-cluster redis-server, the same way
set -euo pipefail

fail() {
    printf 'stillhere: %s\n' "$*" >&2
    exit 1
}

need_python() {
    local python=${PYTHON:-python3} found
    command -v "$python" >/dev/null ||
        fail "there is no $python on PATH. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3."
    found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is Python $found; 3.11 or newer is needed. Name another: make PYTHON=python3.12."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv."
}

need_node() {
    local found
    command -v node >/dev/null || fail "there is no node on PATH. Install Node 20.19 or newer (it builds the pages)."
    command -v npm >/dev/null || fail "there is no npm on PATH. It comes with Node; on Debian: apt-get install npm."
    found=$(node --version)
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
        fail "node is $found; 20.19 or newer is needed (Vite asks for it)."
}

need_programs() { # WHO needs them, then the programs; their packages bear the same names
    local who=$1 program missing=()
    shift
    for program; do
        # haproxy lives in sbin, which is not on everybody's PATH
        command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("$program")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    local how="apt-get install --no-install-recommends ${missing[*]}" apt=(apt-get)
    command -v apt-get >/dev/null ||
        fail "$who these programs on PATH: ${missing[*]}. Install them and try again (on Debian: $how)."
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "$who ${missing[*]}. Install them and try again: sudo $how."
        apt=(sudo -n apt-get)
    fi
    echo "stillhere: installing ${missing[*]} through apt-get"
    "${apt[@]}" update -q </dev/null >/dev/null
    # Debian starts a redis-server of its own on installation; we start ours, on other ports.
    "${apt[@]}" install -q -y --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" </dev/null >/dev/null ||
        fail "apt-get could not install ${missing[*]}. Install them and try again: $how."
}

wish_firefox() { # The tests that drive Firefox are skipped without it, so nothing here may fail. Ubuntu has no such package.
    local apt=(apt-get)
    ! command -v firefox-esr >/dev/null && ! command -v firefox >/dev/null && command -v apt-get >/dev/null || return 0
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 0
        apt=(sudo -n apt-get)
    fi
    apt-cache show firefox-esr >/dev/null 2>&1 || return 0
    echo "stillhere: installing firefox-esr through apt-get"
    "${apt[@]}" install -q -y --no-install-recommends firefox-esr </dev/null >/dev/null 2>&1 ||
        echo "stillhere: apt-get could not install firefox-esr; the tests in Firefox will be skipped"
}

export DEBIAN_FRONTEND=noninteractive
case ${1:-} in
python) need_python ;;
node) need_node ;;
test-tools)
    need_programs "the tests need" redis-server chromium
    wish_firefox
    ;;
model) need_programs "the model needs" spin gcc ;;
cluster-demo) need_programs "the cluster demo needs" redis-server haproxy ;;
bench-cluster) need_programs "the bench needs" redis-server ;;
*) fail "need.sh knows python, node, test-tools, model, cluster-demo and bench-cluster, not '${1:-}'." ;;
esac
