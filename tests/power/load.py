"""Publishers and plugins, and what the outside world knows to have happened. Nothing of it is in the image."""

import http.client
import subprocess
import threading
import time

from broker import Caller, Refused

PUBLISHERS = 6
# What a call meets while the broker is down.
DOWN = (OSError, http.client.HTTPException)
PAUSE = 0.02


class World:
    """What was asked, acknowledged, run and confirmed."""

    def __init__(self, folder):
        self.lock = threading.Lock()
        self.asked = {}
        self.acknowledged = []
        self.confirmed = []
        self.offered_again = []
        self.wrong = []
        self.stop = threading.Event()
        # Set while new orders are published; what was asked already goes on until it is answered.
        self.open = threading.Event()
        self.file = open(folder / "acknowledged", "a", buffering=1)

    def acknowledge(self, key, answer):
        """It counts from here on."""
        ids = [command["id"] for command in answer["commands"]]
        self.file.write(f"{key} {answer['id']} {' '.join(ids)}\n")
        with self.lock:
            self.acknowledged.append((key, answer["id"], ids))


    def end(self, threads):
        """Nobody publishes, nobody plays plugin."""
        self.stop.set()
        self.open.set()
        for thread in threads:
            thread.join()


class Publisher(threading.Thread):
    """Publishes order after order, each until it is answered, with the same key."""

    def __init__(self, world, broker, key, servers, name, random):
        super().__init__(daemon=True)
        self.world, self.caller, self.servers = world, Caller(broker, key), servers
        self.label, self.random = name, random

    def run(self):
        number = 0
        while self.world.open.wait() and not self.world.stop.is_set():
            number += 1
            key = f"order-{self.label}-{number}"
            commands = [{"server": self.random.choice(self.servers), "command": f"run {key} {at}"}
                        for at in range(self.random.randint(1, 3))]
            order = {"reference": key, "commands": commands}
            with self.world.lock:
                self.world.asked[key] = order
            self.until_answered(key, order)
            time.sleep(self.random.uniform(0, 0.01))

    def until_answered(self, key, order):
        while not self.world.stop.is_set():
            try:
                answer = self.caller.publish(key, order)
            except DOWN:
                time.sleep(PAUSE)
            except Refused as refusal:
                if refusal.status < 500 and refusal.status != 429:
                    self.world.wrong.append(f"{key}: {refusal}")
                    return
                time.sleep(PAUSE)
            else:
                if len(answer["commands"]) != len(order["commands"]):
                    self.world.wrong.append(f"{key} is not whole")
                self.world.acknowledge(key, answer)
                return


class Poller(threading.Thread):
    """A plugin over REST that never crashes: it runs each command once, and tells again what it was asked again."""

    def __init__(self, world, broker, token):
        super().__init__(daemon=True)
        self.world, self.caller = world, Caller(broker, token)

    def run(self):
        confirmed = set()
        while not self.world.stop.is_set():
            try:
                due = self.caller.call("GET", "/v1/plugin/commands")["commands"]
                ids = [command["id"] for command in due]
                self.world.offered_again += [id for id in ids if id in confirmed]
                results = [{"id": id, "status": "completed", "output": "done"} for id in ids]
                if results:
                    self.caller.call("POST", "/v1/plugin/results", {"results": results})
                    confirmed.update(ids)
                    with self.world.lock:
                        self.world.confirmed += ids
            except (*DOWN, Refused):
                pass
            time.sleep(PAUSE)


class Plugin:
    """`fluxrelay plugin` around a program that notes what it is told to run."""

    def __init__(self, binary, broker, token, folder):
        (folder / "token").write_text(token)
        self.runs = folder / "runs"
        self.runs.touch()
        command = [binary, "plugin", "--url", f"ws://127.0.0.1:{broker.port}", "--token-file", folder / "token",
                   "--ledger", folder / "ledger", "--no-players", "--", "sh", "-c", f"exec cat >> {self.runs}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def lines(self):
        return self.runs.read_text().split("\n")[:-1]

    def stop(self):
        self.process.terminate()
        self.process.wait()
