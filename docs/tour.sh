#!/bin/sh
# A tour of fluxrelay with curl alone: two servers, one order, a player who joins later, a new token.
#
#   fluxrelay serve                                   # in one terminal
#   KEY=$(cat fluxrelay-data/admin.key) docs/tour.sh  # in another
#
# URL names another address than http://127.0.0.1:7440. Every step checks what it sees; the tour ends at the first
# surprise with exit code 1. It needs a POSIX shell and curl, registers two servers with new names, and removes them at the end.
set -eu
URL=${URL:-http://127.0.0.1:7440}
: "${KEY:?set KEY to the admin key: KEY=\$(cat fluxrelay-data/admin.key) $0}"

say() { printf '\n== %s\n' "$*"; }

# call CREDENTIAL METHOD PATH [BODY]: sends it, shows the answer, keeps it in $ANSWER and its status in $STATUS.
# The credential goes through curl's standard input, so that no list of processes shows it.
call() {
    printf '   %s %s %s\n' "$2" "$3" "${4-}"
    credential=$1 method=$2 path=$3
    shift 3
    if [ $# -gt 0 ]; then set -- --header 'Content-Type: application/json' --data "$1"; fi
    ANSWER=$(printf 'header = "Authorization: Bearer %s"\n' "$credential" |
        curl --silent --show-error --max-time 20 --config - --write-out '\n%{http_code}' --request "$method" "$@" "$URL$path")
    STATUS=$(printf '%s\n' "$ANSWER" | sed -n '$p')
    ANSWER=$(printf '%s\n' "$ANSWER" | sed '$d')
    printf '   %s %s\n' "$STATUS" "$(printf '%s' "$ANSWER" | sed 's/"token":"[^"]*"/"token":"..."/')"
}

# expect STATUS [TEXT...]: the last answer has this status and holds each text.
expect() {
    [ "$STATUS" = "$1" ] || { echo "expected status $1" >&2; exit 1; }
    shift
    for text in "$@"; do
        case $ANSWER in *"$text"*) ;; *) echo "expected $text in the answer" >&2; exit 1 ;; esac
    done
}

# first FIELD: the first text with this name in the last answer.
first() { printf '%s' "$ANSWER" | grep -o "\"$1\":\"[^\"]*\"" | sed -n '1p' | cut -d '"' -f 4; }

# nth_command N: the id of the N-th command in the last answer.
nth_command() { printf '%s' "$ANSWER" | grep -o '"id":"cmd_[^"]*"' | sed -n "$1p" | cut -d '"' -f 4; }

# poll TOKEN: polls until there is a command. What was just accepted is on its way for a moment.
poll() {
    tries=0
    while :; do
        call "$1" GET /v1/plugin/commands
        expect 200
        case $ANSWER in *'"commands":[]'*) ;; *) return ;; esac
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "no command came" >&2; exit 1; }
        sleep 0.1
    done
}

say "Is it up?"
call "$KEY" GET /readyz
expect 200 '"status":"ok"'

RUN=$$-$(date +%s)
say "Register two servers. A token is shown this once; here it is shown as ..."
call "$KEY" POST /v1/servers "{\"name\": \"survival-$RUN\", \"address\": \"mc.example.org:25565\"}"
expect 201 '"status":"offline"'
SURVIVAL=$(first id) SURVIVAL_TOKEN=$(first token)
call "$KEY" POST /v1/servers "{\"name\": \"creative-$RUN\"}"
expect 201
CREATIVE=$(first id) CREATIVE_TOKEN=$(first token)

say "The plugin of the second server says who is online: nobody"
call "$CREATIVE_TOKEN" POST /v1/plugin/players '{"online": []}'
expect 200

say "One order: a command for each server, and one for a player who has to be there"
call "$KEY" POST /v1/orders "{\"reference\": \"invoice 1042\", \"player\": {\"name\": \"Steve\"}, \"commands\": [
    {\"server\": \"$SURVIVAL\", \"command\": \"lp user Steve parent add vip\"},
    {\"server\": \"$CREATIVE\", \"command\": \"say Steve is a VIP\"},
    {\"server\": \"$CREATIVE\", \"command\": \"give Steve diamond 64\", \"require_online\": true}]}"
expect 201 '"status":"pending"'
ORDER=$(first id) VIP=$(nth_command 1) SAY=$(nth_command 2) DIAMONDS=$(nth_command 3)

say "An order that names an unknown server is refused whole, and told where"
call "$KEY" POST /v1/orders '{"commands": [{"server": "srv_999999", "command": "say hello"}]}'
expect 422 '"code":"unknown_server"' '"field":"commands[0].server"'

say "Be the first plugin: poll, run it, report"
poll "$SURVIVAL_TOKEN"
expect 200 "\"id\":\"$VIP\"" '"attempt":1'
call "$SURVIVAL_TOKEN" POST /v1/plugin/results \
    "{\"results\": [{\"id\": \"$VIP\", \"status\": \"completed\", \"output\": \"Added Steve to vip\"}]}"
expect 200 '"accepted":1'
call "$KEY" GET "/v1/commands/$VIP"
expect 200 '"status":"completed"' '"output":"Added Steve to vip"' '"history":[{"status":"pending"'

say "Be the second plugin: the first try fails, and a retry is scheduled"
poll "$CREATIVE_TOKEN"
expect 200 "\"id\":\"$SAY\""
call "$CREATIVE_TOKEN" POST /v1/plugin/results \
    "{\"results\": [{\"id\": \"$SAY\", \"status\": \"failed\", \"error\": \"the chat is muted\"}]}"
expect 200 '"accepted":1'
call "$KEY" GET "/v1/commands/$SAY"
expect 200 '"status":"pending"' '"note":"retry_scheduled"' '"error":"the chat is muted"'

say "Withdraw it before the retry"
call "$KEY" POST "/v1/commands/$SAY/cancel" '{}'
expect 200 '"status":"cancelled"'

say "The diamonds wait for Steve"
call "$KEY" GET "/v1/commands/$DIAMONDS"
expect 200 '"status":"awaiting_player"'

say "Steve joins: they go out"
call "$CREATIVE_TOKEN" POST /v1/plugin/players '{"joined": ["Steve"]}'
expect 200 '"released":1'
poll "$CREATIVE_TOKEN"
expect 200 "\"id\":\"$DIAMONDS\""
call "$CREATIVE_TOKEN" POST /v1/plugin/results "{\"results\": [{\"id\": \"$DIAMONDS\", \"status\": \"completed\"}]}"
expect 200 '"accepted":1'
call "$KEY" GET "/v1/commands/$DIAMONDS"
expect 200 '"status":"completed"' '"status":"awaiting_player"'

say "The whole order"
call "$KEY" GET "/v1/orders/$ORDER"
expect 200 '"reference":"invoice 1042"' "\"id\":\"$SAY\",\"server\":\"$CREATIVE\",\"status\":\"cancelled\""

say "A new token: the old one is dead"
call "$KEY" POST "/v1/servers/$SURVIVAL/token" '{}'
expect 200
NEW_TOKEN=$(first token)
call "$SURVIVAL_TOKEN" GET /v1/plugin/commands
expect 401 '"code":"invalid_credentials"'
call "$NEW_TOKEN" GET /v1/plugin/commands
expect 200 '"next_check_seconds":'

say "Remove both servers"
call "$KEY" DELETE "/v1/servers/$SURVIVAL"
expect 204
call "$KEY" DELETE "/v1/servers/$CREATIVE"
expect 204

say "The tour ends here. Every call, field and refusal: $URL/openapi.json"
