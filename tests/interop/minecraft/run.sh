#!/usr/bin/env bash
# The main job on a real server console: `give Steve diamond 64` is published with curl while Steve is away; Steve joins
# a real Minecraft server (flying-squid) run by `fluxrelay plugin`, and the diamonds end in his inventory.
# Usage: run.sh [FLUXRELAY_BINARY]. Needs node, npm, curl, python3; installs two npm packages beside itself.
set -euo pipefail
cd "$(dirname "$0")"
fluxrelay=$(realpath "${1:-../../../target/release/fluxrelay}")
[ -d node_modules ] || npm install --no-audit --no-fund
work=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work"' EXIT
field() { python3 -c 'import json,sys; print(eval("json.load(sys.stdin)" + sys.argv[1]))' "$1"; }
until_says() { # FILE TEXT: until the text is in the file
    timeout 60 bash -c 'until grep -q "$2" "$1" 2>/dev/null; do sleep 0.1; done' - "$1" "$2"
}

"$fluxrelay" serve --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/serve.log" 2>&1 &
pids+=($!)
until_says "$work/serve.log" "listening on"
url=$(sed -n 's/^listening on //p' "$work/serve.log")
auth="Authorization: Bearer $(cat "$work/data/admin.key")"
server=$(curl -sf "$url/v1/servers" -H "$auth" --json '{"name": "survival"}')
export FLUXRELAY_TOKEN MC_PORT
FLUXRELAY_TOKEN=$(field '["token"]' <<<"$server")
MC_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

mkfifo "$work/stdin" && exec 3<>"$work/stdin"
"$fluxrelay" plugin --url "$url" --ledger "$work/ledger" --ready-regex 'Server listening' \
    --join-regex '(\S+) \(\S+\) connected$' --leave-regex '(\S+) disconnected$' \
    -- node server.js <"$work/stdin" >"$work/plugin.log" 2>&1 &
pids+=($!)
until_says "$work/plugin.log" "Server listening"

order='{"player": {"name": "Steve"}, "commands": [{"server": "%s", "command": "give Steve diamond 64", "require_online": true}]}'
# shellcheck disable=SC2059
published=$(curl -sf "$url/v1/orders" -H "$auth" --json "$(printf "$order" "$(field '["id"]' <<<"$server")")")
command=$(field '["commands"][0]["id"]' <<<"$published")
status() { curl -sf "$url/v1/commands/$command" -H "$auth" | field '["status"]'; }
echo "published $command: $(status)"
node bot.js
for _ in $(seq 50); do [ "$(status)" = completed ] && break; sleep 0.1; done
echo "$command: $(status)"
[ "$(status)" = completed ]
