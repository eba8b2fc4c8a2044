#!/usr/bin/env bash
# A whole client of Holdfast's gRPC APIs in shell: sign in, list, watch, deploy. Copy what you need.
#
#   npm install @bufbuild/buf; apt-get install jq openssl
#   ./fleet.sh list 'board=host'
#   ./fleet.sh watch 3                 # ends after three events
#   ./fleet.sh deploy dv... bn...
#
# It acts in the current context of the `holdfast` command line (HOLDFAST_HOME, or ~/.config/holdfast). `buf curl` speaks gRPC and asks the
# server for its schema (reflection); nothing is asked when HOLDFAST_SCHEMA names the folder proto, or what `holdfast manual descriptors
# holdfast.binpb` writes. Standard output is for programs, one line a thing; exit 7 says that the device did not keep what was deployed.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
home=${HOLDFAST_HOME:-~/.config/holdfast}
buf=${BUF:-buf}

# A value of the current context.
setting() {
    awk -v context="[contexts.$(sed -n 's/^current = "\(.*\)"$/\1/p' "$home/config.toml")]" -v key="$1" '
        /^\[/ { inside = $0 == context }
        inside && $1 == key { sub(/^[^=]*= *"/, ""); sub(/"$/, ""); print }' "$home/config.toml"
}

# RFC 4648 §5, without padding.
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# ES256 of standard input: openssl gives both numbers as DER, a JWT has them side by side, 32 bytes each (RFC 7518 §3.4).
es256() {
    openssl dgst -sha256 -sign "$(setting key_file)" | openssl asn1parse -inform DER | sed -n 's/.*INTEGER *://p' |
        while read -r number; do
            printf '%b' "$(printf '%64s' "$number" | tr ' ' 0 | sed 's/../\\x&/g')"
        done | base64url
}

# One call: service, method, request as JSON. The token goes in by standard input: arguments are for everybody on the machine to read.
call() {
    local code=0 errors="$scratch/$BASHPID"
    "$buf" curl --protocol grpc --cacert "$(setting ca)" ${HOLDFAST_SCHEMA:+--schema "$HOLDFAST_SCHEMA"} \
        ${token:+--header @-} --data "$3" "$(setting "$1")/$2" <<<"authorization: Bearer $token" 2>"$errors" || code=$?
    [ "$code" = 0 ] || explain "$errors" >&2
    return "$code"
}

# Programs act on the reason (docs/errors.md), never on the message: the first field of google.rpc.ErrorInfo, read by hand, since the
# schema of the services does not hold that type.
explain() {
    jq -er '(.details[]? | select(.type == "google.rpc.ErrorInfo") | .value
            | . + "==="[: (4 - length % 4) % 4] | @base64d | .[2:2 + (explode[1])]) as $reason
        | "\(.code): \(.message) (\($reason))"' "$1" 2>/dev/null || cat "$1"
}

# RFC 7523: an assertion signed by the key, for a token of 15 minutes. The private key stays here.
sign_in() {
    local key now claims signed
    key=$(setting key) now=$(date +%s)
    claims=$(jq -nc --arg key "$key" --argjson now "$now" --arg jti "$(openssl rand -hex 16)" \
        '{iss: $key, sub: $key, aud: "holdfast/token", iat: $now, exp: ($now + 60), jti: $jti}')
    signed=$(printf '{"alg":"ES256","typ":"JWT"}' | base64url).$(printf '%s' "$claims" | base64url)
    call registry holdfast.registry.v1.TokenService/ExchangeToken \
        "$(jq -nc --arg assertion "$signed.$(printf '%s' "$signed" | es256)" '$ARGS.named')" | jq -r .accessToken
}

# Every device that matches, page by page: stop only at an empty page token.
list() {
    local page_token='' page
    while :; do
        page=$(call registry holdfast.registry.v1.DeviceService/ListDevices \
            "$(jq -nc --arg parent "$tenant" --arg filter "$1" --arg pageToken "$page_token" \
                '$ARGS.named + {pageSize: 100}')")
        jq -r '.devices[]? | "\(.name | split("/") | last) \(.board) \(.hardwareId)"' <<<"$page"
        page_token=$(jq -r '.nextPageToken // empty' <<<"$page")
        [ -n "$page_token" ] || return 0
    done
}

# The devices there are, then changes; a watch ends with its token, and is opened again with a new one.
watch() {
    call registry holdfast.registry.v1.DeviceService/WatchDevices "$(jq -nc --arg parent "$tenant" '$ARGS.named')" |
        jq --unbuffered -r '"\(.kind | ltrimstr("KIND_") | ascii_downcase) \(.device.name // "" | split("/") | last // "")"'
}

# The same, ended after so many events: in a process group of its own, which can be told to end.
watch_some() {
    local left=$1 event events
    set -m
    coproc EVENTS { watch; }
    events=$EVENTS_PID
    exec 3<&"${EVENTS[0]}"
    while ((left-- > 0)) && IFS= read -r event <&3; do echo "$event"; done
    kill -- "-$events" 2>/dev/null || wait "$events"
}

# Tells one device what to run and follows it to its end.
deploy() {
    local deployment last
    deployment=$(call ota holdfast.ota.v1.DeploymentService/CreateDeployment \
        "$(jq -nc --arg parent "$tenant" --arg device "$(name devices "$1")" --arg bundle "$(name bundles "$2")" \
            '$ARGS.named')" | jq -r .name)
    last=$(call ota holdfast.ota.v1.DeploymentService/WatchDeployment "$(jq -nc --arg name "$deployment" '$ARGS.named')" |
        jq --unbuffered -r '.deployment // empty | "\(.state | ltrimstr("STATE_") | ascii_downcase) \(.reason // "")"' |
        tee /dev/stderr | tail -n 1)
    echo "$last"
    [[ $last == confirmed* ]] || exit 7
}

# The whole name of what may be given by its id alone.
name() { [[ $2 == */* ]] && echo "$2" || echo "$tenant/$1/$2"; }

tenant=$(setting tenant)
token=''
token=$(sign_in)
case ${1:-} in
    list) list "${2:-}" ;;
    watch) if [ -n "${2:-}" ]; then watch_some "$2"; else watch; fi ;;
    deploy) deploy "$2" "$3" ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
