#!/usr/bin/env bash
# Mutates a copy of core/ and wire/ and runs the unit tests against each mutant. Not a gate: it lists the survivors.
#
#   scripts/mutants.sh [MODULE…]     modules below src/stillhere; default: core and wire
#
# A second call goes on where an interrupted one stopped; `rm -r build/mutants` starts anew.
set -euo pipefail
cd "$(dirname "$0")/.."

top=$PWD work=build/mutants python=$PWD/.venv/bin
[ $# -gt 0 ] || set -- core wire

if [ ! -f "$work/session.sqlite" ]; then
    rm -rf "$work"
    mkdir -p "$work"
    cp -r src tests pyproject.toml "$work/"
    {
        echo '[cosmic-ray]'
        printf 'module-path = ['
        printf '"src/stillhere/%s", ' "$@"
        printf ']\n'
        echo 'timeout = 60.0'
        echo 'excluded-modules = []'
        # The copy goes first on the path, before the editable install of the original.
        echo "test-command = \"env PYTHONPATH=src HYPOTHESIS_PROFILE=quick $python/python -m pytest -x -q -p no:cacheprovider ${MUTANT_TESTS:-tests/unit}\""
        echo '[cosmic-ray.distributor]'
        echo 'name = "local"'
    } >"$work/mutants.toml"
    cd "$work"
    PATH=$python:$PATH cosmic-ray baseline mutants.toml
    PATH=$python:$PATH cosmic-ray init mutants.toml session.sqlite
else
    cd "$work"
fi

export PATH=$python:$PATH
cosmic-ray exec mutants.toml session.sqlite
cr-report --surviving-only --show-diff session.sqlite >survivors.txt || true
cr-rate session.sqlite | sed 's/^/percent of the mutants that survived: /'
echo "the survivors are in ${PWD#"$top"/}/survivors.txt"
