#!/usr/bin/env bash
# Writes requirements/{dev,server,build,mutants}.txt from the ranges in pyproject.toml, and the package-lock.json of the
# pages and the SDK from their package.json. One lock serves every platform and every Python from 3.11 on (markers say which line is for whom).
#
#   scripts/lock.sh            keeps what is locked where the ranges still allow it
#   scripts/lock.sh --upgrade  takes the newest that the ranges allow
set -euo pipefail
cd "$(dirname "$0")/.."

tool=.stamps/lock-venv
[ -x "$tool/bin/uv" ] || { "${PYTHON:-python3}" -m venv "$tool" && "$tool/bin/pip" install --quiet uv; }

lock() { # NAME, then what to lock
    local name=$1 out=requirements/$1.txt
    shift
    echo "locking $out"
    "$tool/bin/uv" pip compile --no-strip-extras pyproject.toml "$@" \
        --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links --no-emit-index-annotation \
        --output-file "$out" ${upgrade:+"$upgrade"} >/dev/null
    { printf '# Written by `make lock`; the ranges are in pyproject.toml.\n'; cat "$out"; } >"$out.new"
    mv "$out.new" "$out"
}

upgrade=${1:-}
export SSL_CERT_FILE="${SSL_CERT_FILE:-$("$tool/bin/python" -c 'import ssl; print(ssl.get_default_verify_paths().cafile or "")')}"
[ -n "$SSL_CERT_FILE" ] || unset SSL_CERT_FILE
lock dev --extra all --group dev
lock server --extra server --extra redis --constraints requirements/dev.txt
lock build --group build --constraints requirements/dev.txt
lock mutants --extra all --group mutants --constraints requirements/dev.txt

for folder in web clients/typescript examples/react bench/peers/ws bench/peers/socketio bench/peers/bun; do
    echo "locking $folder/package-lock.json"
    if [ -n "$upgrade" ]; then (cd "$folder" && npm update --package-lock-only --ignore-scripts --no-audit --no-fund); fi
    (cd "$folder" && npm install --package-lock-only --ignore-scripts --no-audit --no-fund)
done

for folder in bench/peers/python_socketio bench/peers/channels; do
    echo "locking $folder/requirements.txt"
    "$tool/bin/uv" pip compile --no-strip-extras "$folder/requirements.in" --constraints requirements/dev.txt \
        --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --no-emit-index-annotation \
        --output-file "$folder/requirements.txt" ${upgrade:+"$upgrade"} >/dev/null
done
