"""The main job over the binary protocol, with a client written from protocol.md alone.

    python3 story.py --fluxrelay target/debug/fluxrelay

Starts a broker on a temporary data dir, tells the story, and ends with exit code 0 if all of it came true.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

try:
    import client
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}: run `pip install websockets` for this python ({sys.executable})")

CODES = {"protocol_violation": 4, "invalid_credentials": 11, "replaced": 20, "token_revoked": 21,
         "shutting_down": 23, "key_conflict": 40, "unknown_server": 41, "invalid_command": 42}


def say(line):
    print(line, flush=True)


class Broker:
    def __init__(self, binary, folder):
        command = [binary, "serve", "--data-dir", folder, "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "listening on http://" in line:
                self.base = line.split("listening on ")[1].split()[0].rstrip("/")
                break
        else:
            sys.exit(f"the broker ended with {self.process.wait()} before it said where it listens")
        self.key = (pathlib.Path(folder) / "admin.key").read_text().strip()

    def rest(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def status(self, command, expected):
        """Reads a command until it has the status: REST may answer a moment before the event."""
        server, seq = command
        deadline = time.monotonic() + 10
        while (found := self.rest("GET", f"/v1/commands/cmd_{server}_{seq}"))["status"] != expected:
            assert time.monotonic() < deadline, f"wanted {expected}: {found}"
            time.sleep(0.02)
        return found


def plugin(broker, token, in_header=True, **hello):
    link = client.Link(broker.base, "/v1/plugin/ws", token if in_header else None)
    link.send(client.plugin_hello(None if in_header else token, **hello))
    return link


def refused(link, code):
    error = link.wait("error")
    assert error["code"] == CODES[code], f"wanted {code}: {error}"
    assert link.closed(), f"the connection stays open after {code}"


def delivered(link, count):
    commands = []
    while len(commands) < count:
        commands += link.wait("deliver")["commands"]
    assert len(commands) == count, commands
    return commands


def wait_event(publisher, command, status):
    while True:
        event = publisher.wait("event")
        if event["kind"] == 3 and (event["server"], event["seq"]) == command and event["status"] == status:
            return event


def orders(broker, publisher, alpha, beta):
    """One order for two servers, one of its commands for an absent player on each."""
    order = [
        {"server": alpha.number, "text": "lp user Steve parent add vip"},
        {"server": alpha.number, "text": "give Steve diamond 64", "require_online": True},
        {"server": beta.number, "text": "say Thanks, Steve", "rerun": True},
        {"server": beta.number, "text": "give Alex apple 1", "player": "Alex", "require_online": True},
    ]
    first = client.publish(1, order, key="order-1001", reference="shop#1001", name="Steve")
    publisher.send(first)
    answer = publisher.wait("published")
    assert answer["request"] == 1 and not answer["replayed"]
    assert [server for server, _ in answer["commands"]] == [alpha.number, alpha.number, beta.number, beta.number]
    say("an order of four commands for two servers is accepted")

    bad = [{"server": alpha.number, "text": "two\nlines"}]
    unknown = [order[0], {"server": 4_000_000_000, "text": "say hi"}]
    publisher.send(
        first,
        client.publish(2, order[:1], key="order-1001"),
        client.publish(3, bad),
        client.publish(4, unknown),
        client.frame(0x10, client.number(8, 99)),
    )
    again = publisher.wait("published")
    assert again["replayed"] and again["order"] == answer["order"] and again["commands"] == answer["commands"]
    codes = {}
    for _ in range(3):
        fields = publisher.wait("refused")
        codes[fields["request"]] = fields["code"]
    assert codes == {2: CODES["key_conflict"], 3: CODES["invalid_command"], 4: CODES["unknown_server"]}, codes
    assert publisher.wait("pong")["nonce"] == 99
    say("repeated, it is the same order; bad orders are refused and the connection stays")
    return answer["commands"]


def run(broker, publisher, alpha, beta, commands):
    vip, diamond, thanks, apple = commands
    got = delivered(alpha.link, 2)
    assert [command["id"] for command in got] == [vip[1], diamond[1]]
    assert [command["attempt"] for command in got] == [1, 1]
    assert got[1]["require_online"] and got[1]["player"]["name"] == "Steve"
    alpha.link.send(
        client.results(1, [(vip[1], 1, "completed", None, "Added vip"), (diamond[1], 1, "awaiting_player", None, None)])
    )
    assert alpha.link.wait("confirm")["batch"] == 1
    wait_event(publisher, diamond, "awaiting_player")
    history = [entry["status"] for entry in broker.status(vip, "completed")["history"]]
    assert history[0] == "pending" and history[-1] == "completed", history
    say("the first server runs one and parks the other: its player is absent")

    alpha.link.send(client.players_frame("joined", ["steve"]))
    (released,) = delivered(alpha.link, 1)
    assert (released["id"], released["attempt"]) == (diamond[1], 1)
    done = [(diamond[1], 1, "completed", None, None)]
    alpha.link.send(client.results(2, done), client.results(3, done))
    while alpha.link.wait("confirm")["batch"] < 3:
        pass
    wait_event(publisher, diamond, "completed")
    say("the player joins, the command is released and runs; its result counts once")

    (got,) = delivered(beta.link, 1)
    assert got["id"] == thanks[1] and got["rerun"]
    beta.link.send(client.results(1, [(thanks[1], 1, "failed", "Unknown command", None)]))
    beta.link.wait("confirm")
    event = wait_event(publisher, thanks, "pending")
    assert (event["attempt"], event["note"], event["error"]) == (2, 1, "Unknown command"), event
    broker.status(apple, "awaiting_player")
    beta.link.send(client.players_frame("joined", ["Alex"]))
    (got,) = delivered(beta.link, 1)
    assert got["id"] == apple[1]
    say("the second server fails one, which will be retried, and gets the other once its player joins")


def reconnect(broker, publisher, beta, commands):
    """The second server's connection breaks while a command is out and unanswered."""
    thanks, apple = commands[2:]
    beta.link.close()
    beta.link = plugin(broker, beta.token, in_header=False, held=[apple[1]], in_doubt=[], players=["Alex"])
    assert beta.link.wait("plugin_welcome")["forget"] == []
    beta.link.send(client.results(1, [(apple[1], 1, "in_doubt", None, None)]))
    beta.link.wait("confirm")
    assert not [fields for name, fields in beta.link.kept if name == "deliver"], "it was sent again although held"
    wait_event(publisher, apple, "in_doubt")
    beta.link.send(client.results(2, [(apple[1], 1, "completed", None, "late")]))
    beta.link.wait("confirm")
    wait_event(publisher, apple, "completed")
    say("reconnected, it is not sent again what it holds; in doubt first, a late result decides")

    newer = plugin(broker, beta.token, finished=[apple[1]])
    assert newer.wait("plugin_welcome")["forget"] == [apple[1]]
    refused(beta.link, "replaced")
    beta.link = newer
    newer.socket.send("not binary")
    refused(newer, "protocol_violation")
    say("a newer connection replaces the older; a text message ends a connection")


def tokens(broker, alpha):
    old, alpha.token = alpha.token, broker.rest("POST", f"/v1/servers/{alpha.id}/token")["token"]
    refused(alpha.link, "token_revoked")
    for in_header in (True, False):
        refused(plugin(broker, old, in_header), "invalid_credentials")
    alpha.link = plugin(broker, alpha.token)
    alpha.link.wait("plugin_welcome")
    say("a new token ends the session and kills the old one")


class Server:
    def __init__(self, broker, name):
        made = broker.rest("POST", "/v1/servers", {"name": name, "address": "127.0.0.1:25565"})
        self.id, self.token = made["id"], made["token"]
        self.number = int(self.id.removeprefix("srv_"))


def story(broker):
    alpha, beta = Server(broker, "alpha"), Server(broker, "beta")
    publisher = client.Link(broker.base, "/v1/publisher/ws")
    publisher.send(client.publisher_hello(broker.key))
    assert publisher.wait("publisher_welcome")["version"] == 1
    publisher.send(client.subscribe())
    alpha.link = plugin(broker, alpha.token)
    welcome = alpha.link.wait("plugin_welcome")
    assert welcome["version"] == 1 and welcome["frame_bytes_max"] == 1024 * 1024, welcome
    beta.link = plugin(broker, beta.token, in_header=False, players=[])
    assert beta.link.wait("plugin_welcome")["epoch"] > 0
    assert publisher.wait("event")["kind"] == 1
    say("two servers and a publisher are connected")

    commands = orders(broker, publisher, alpha, beta)
    run(broker, publisher, alpha, beta, commands)
    reconnect(broker, publisher, beta, commands)
    tokens(broker, alpha)

    broker.process.send_signal(signal.SIGTERM)
    for link in (alpha.link, publisher):
        assert link.wait("go_away")["code"] == CODES["shutting_down"]
        assert link.closed()
    assert broker.process.wait(timeout=20) == 0
    say("the broker says go away, and stops; all of the story came true")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fluxrelay", required=True, help="the binary")
    binary = parser.parse_args().fluxrelay
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(binary, folder)
        try:
            story(broker)
        finally:
            broker.process.kill()
            broker.process.wait()


if __name__ == "__main__":
    main()
