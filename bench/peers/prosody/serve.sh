#!/usr/bin/env bash
# Prosody with a configuration of its own: XMPP over WebSocket (RFC 7395), SASL ANONYMOUS, rooms (XEP-0045).
# Nothing of the system's own service is read or written. Rooms are not persistent; rate limits are not loaded.
# By default 100 rooms are kept and the list is searched for one to give up when there are more; here all are kept.
#
#   serve.sh PORT DIRECTORY
set -euo pipefail
port=$1 work=$2
mkdir -p "$work/data"
cat >"$work/prosody.cfg.lua" <<CONFIG
run_as_root = true
pidfile = "$work/prosody.pid"
data_path = "$work/data"
certificates = "$work"
log = { warn = "*console" }
network_backend = "epoll"
network_settings = { tcp_backlog = 4096 }
storage = "memory"

modules_enabled = { "roster", "saslauth", "disco", "presence", "message", "iq", "http", "websocket" }
modules_disabled = { "s2s", "offline", "tls", "s2s_auth_certs" }
c2s_require_encryption = false
consider_websocket_secure = true
c2s_ports, s2s_ports, https_ports = {}, {}, {}
http_ports = { $port }
http_interfaces = { "127.0.0.1" }
http_default_host = "localhost"

VirtualHost "localhost"
    authentication = "anonymous"

Component "rooms.localhost" "muc"
    restrict_room_creation = false
    muc_room_locking = false
    muc_room_cache_size = 100000
    muc_room_default_history_length = 0
    muc_room_default_public = false
CONFIG
exec prosody --config "$work/prosody.cfg.lua" -F
