#!/usr/bin/env bash
# ejabberd with a configuration of its own: XMPP over WebSocket (RFC 7395), SASL PLAIN with an HS256 token, rooms
# (XEP-0045). Nothing of the system's own service is read or written. It runs without a node name, so that no port
# mapper is started, and its schedulers do not spin while they wait, as is advised where CPU time counts.
#
#   serve.sh PORT DIRECTORY SECRET
set -euo pipefail
port=$1 work=$2 secret=$3
mkdir -p "$work/mnesia"
printf '{"kty":"oct","k":"%s"}' "$(printf %s "$secret" | base64 -w0 | tr '+/' '-_' | tr -d '=')" >"$work/secret.jwk"
cat >"$work/ejabberd.yml" <<CONFIG
loglevel: error
log_rotate_count: 0
hosts: [localhost]
auth_method: [jwt]
jwt_key: "$work/secret.jwk"
jwt_jid_field: sub
listen:
  - port: $port
    ip: "127.0.0.1"
    module: ejabberd_http
    backlog: 4096
    request_handlers:
      /xmpp-websocket: ejabberd_http_ws
modules:
  mod_disco: {}
  mod_roster: {}
  mod_muc:
    hosts: [rooms.localhost]
    max_users: 100000
    max_users_presence: 100000
    history_size: 0
    default_room_options:
      max_users: 100000
      public: false
CONFIG
libs=$(dirname "$(dirname "$(ls -d /usr/lib/*/ejabberd-*/ebin /usr/lib/ejabberd-*/ebin 2>/dev/null | head -n 1)")")
export ERL_LIBS=$libs
export EJABBERD_CONFIG_PATH=$work/ejabberd.yml EJABBERD_LOG_PATH=$work/ejabberd.log ERL_CRASH_DUMP=/dev/null
exec erl -noinput +K true +P 250000 +Q 65536 +sbwt none +sbwtdcpu none +sbwtdio none \
    -mnesia dir "\"$work/mnesia\"" -s ejabberd
