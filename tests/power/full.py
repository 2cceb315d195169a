"""A full disk: refused early, results stored, and on again once there is space."""

import collections
import os
import random
import threading
import time

from broker import Broker, Caller, Ended, Refused
from cut import free_port
from load import DOWN
from machine import Volume, make_image

IMAGE_MEBIBYTES = 64
MEBIBYTE = 1 << 20
PUBLISHERS = 4
TEXT = "say " + "x" * 1000
SECONDS_MAX = 60
# Full: the room of the file system's owner is used up as well.
CHUNK = 64 << 10


def run(options, folder):
    results = collections.Counter()
    for cycle in range(1, options.cycles + 1):
        image = folder / f"full-{cycle}"
        make_image(image, options.file_system, IMAGE_MEBIBYTES)
        volume = Volume(image, folder / "mount")
        story = Story(options, volume, fill=cycle % 3 == 0)
        try:
            words = story.tell()
        finally:
            if story.broker:
                story.broker.kill()
            volume.close()
            image.unlink()
        results.update(story.results)
        print(f"disk {cycle}: {words}", flush=True)
    print(f"{options.cycles} full disks of {IMAGE_MEBIBYTES} MiB, {options.file_system}, reserve {options.reserve} MiB: "
          + ", ".join(f"{name} {count}" for name, count in sorted(results.items())))
    return not results["BROKEN"]


class Story:
    """One disk, from the first order to the last look."""

    def __init__(self, options, volume, fill):
        self.volume, self.chance, self.fill, self.reserve = volume, options.random, fill, options.reserve
        self.options, self.port, self.broker = options, free_port(options.random), None
        self.results = collections.Counter()
        self.acknowledged, self.refusals, self.lock = [], [], threading.Lock()
        self.completed = set()
        self.ballast = volume.mount_point / "ballast"

    def start(self):
        settings = ("--disk-reserve-mib", str(self.reserve)) if self.reserve else ()
        self.broker = Broker(self.options.binary, self.volume.mount_point / "data", self.port, settings=settings)

    def tell(self):
        """Tells it; the words about it. What is not as it must be is counted as BROKEN."""
        self.start()
        self.key = (self.volume.mount_point / "data" / "admin.key").read_text().strip()
        admin = Caller(self.broker, self.key)
        made = admin.call("POST", "/v1/servers", {"name": "polled"})
        self.server, self.token = made["id"], made["token"]
        self.plugin = Caller(self.broker, self.token)
        room = self.chance.uniform(2, 8) * MEBIBYTE
        self.write_ballast(self.volume.free() - self.reserve * MEBIBYTE - room)
        held = self.publish_until_refused()
        if any(refusal.code == "shutting_down" for refusal in self.refusals):
            self.ended_soon()
        if self.broker.process.poll() is not None:
            self.expect("refused early", not self.reserve)
            self.results["stopped at the full disk"] += 1
            words = f"it stopped: {self.broker.words()}"
            return f"{words}; {self.after_space(restart=True)}"
        free = self.volume.free()
        self.results["refused early"] += 1
        self.expect("refusals", all(refusal.code == "storage_unavailable" and refusal.status == 503
                                    and refusal.retry_after for refusal in self.refusals))
        if self.fill:
            words = self.fill_to_the_end()
            return f"{len(self.acknowledged)} orders, refused at {free >> 10} KiB free; {words}"
        stored = self.store_results(held)
        least = self.volume.free()
        self.results["results stored"] += stored
        restart = self.chance.random() < 0.5
        if restart:
            self.broker.kill()
        after = self.after_space(restart)
        return (f"{len(self.acknowledged)} orders, refused at {free >> 10} KiB free; {stored} results stored, "
                f"{least >> 10} KiB free then; {after}")

    def expect(self, what, holds):
        if not holds:
            self.results["BROKEN"] += 1
            self.results[f"BROKEN {what}"] += 1

    def write_ballast(self, size):
        with open(self.ballast, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, max(int(size), 1))

    def publish_until_refused(self):
        """Several publishers, each to its third refusal in a row; a plugin takes some commands and holds them."""
        held, stop = [], threading.Event()

        def publish(name, chance):
            caller, number, refused = Caller(self.broker, self.key), 0, 0
            while refused < 3 and not stop.is_set():
                number += 1
                commands = [{"server": self.server, "command": f"{TEXT} {name} {number} {at}"}
                            for at in range(chance.randint(1, 3))]
                try:
                    answer = caller.publish(f"{name}-{number}", {"commands": commands})
                except Refused as refusal:
                    refused += 1
                    with self.lock:
                        self.refusals.append(refusal)
                    time.sleep(0.02)
                except DOWN:
                    return
                else:
                    refused = 0
                    with self.lock:
                        self.acknowledged.append((answer["id"], [command["id"] for command in answer["commands"]]))

        threads = [threading.Thread(target=publish, args=(name, random.Random(self.chance.random())))
                   for name in range(PUBLISHERS)]
        for thread in threads:
            thread.start()
        try:
            while not held and any(thread.is_alive() for thread in threads):
                held = [command["id"] for command in self.plugin.call("GET", "/v1/plugin/commands")["commands"]]
        except DOWN:
            pass
        for thread in threads:
            thread.join(SECONDS_MAX)
        stop.set()
        self.expect("a refusal or an end", self.refusals or self.broker.process.poll() is not None
                    or self.ended_soon())
        return held

    def ended_soon(self):
        for _ in range(100):
            if self.broker.process.poll() is not None:
                return True
            time.sleep(0.05)
        return False

    def store_results(self, held):
        """What was delivered before the refusal, and then everything that was accepted."""
        wanted = {id for _, ids in self.acknowledged for id in ids}
        deadline = time.monotonic() + SECONDS_MAX
        due = held
        while wanted - self.completed and time.monotonic() < deadline:
            results = [{"id": id, "status": "completed", "output": "done"} for id in due]
            try:
                if results:
                    self.plugin.call("POST", "/v1/plugin/results", {"results": results})
                    self.completed.update(due)
                due = [command["id"] for command in self.plugin.call("GET", "/v1/plugin/commands")["commands"]]
            except (*DOWN, Refused) as error:
                self.expect(f"results are stored ({error})", False)
                return len(self.completed)
            if not due:
                time.sleep(0.05)
        self.expect("all results are stored", not wanted - self.completed)
        return len(self.completed)

    def fill_to_the_end(self):
        """Somebody else takes all that is left, while results still come: it may stop, with the reason."""
        try:
            with open(self.ballast, "ab") as file:
                while True:
                    file.write(bytes(CHUNK))
                    file.flush()
        except OSError:
            pass
        due = []
        try:
            for _ in range(400):
                due = [command["id"] for command in self.plugin.call("GET", "/v1/plugin/commands")["commands"]]
                results = [{"id": id, "status": "completed", "output": "o" * 2000} for id in due]
                if results:
                    self.plugin.call("POST", "/v1/plugin/results", {"results": results})
                    self.completed.update(due)
        except (*DOWN, Refused):
            pass
        if not self.ended_soon():
            self.results["filled to the end, went on"] += 1
            self.broker.kill()
            return f"filled to the end, it went on; {self.after_space(restart=True)}"
        words = self.broker.words()
        self.results["filled to the end, stopped"] += 1
        self.expect("exit code", self.broker.process.returncode == 1)
        self.expect("reason", "no space left" in words)
        return f"filled to the end: {words}; {self.after_space(restart=True)}"

    def after_space(self, restart):
        """Space again: publishes are accepted, by itself or after a restart, and everything is there."""
        self.ballast.unlink()
        begun = time.monotonic()
        if restart:
            try:
                self.start()
            except Ended as ended:
                self.expect("start with space", False)
                return f"NO START: {ended}"
        caller = Caller(self.broker, self.key)
        order = {"commands": [{"server": self.server, "command": "say there is space"}]}
        while True:
            try:
                caller.publish("space", order)
                break
            except (*DOWN, Refused) as error:
                if time.monotonic() - begun > SECONDS_MAX:
                    self.expect("accepted again", False)
                    return f"NOT ACCEPTED AGAIN: {error}"
                time.sleep(0.02)
        seconds = time.monotonic() - begun
        self.results["on again after a restart" if restart else "on again by itself"] += 1
        self.broker.kill()
        self.start()
        caller = Caller(self.broker, self.key)
        statuses = {command["id"]: command["status"] for command in caller.commands(self.server)}
        missing = sum(id not in statuses for _, ids in self.acknowledged for id in ids)
        forgotten = sum(statuses.get(id) != "completed" for id in self.completed)
        self.results["orders acknowledged"] += len(self.acknowledged)
        self.results["missing"] += missing
        self.results["forgotten results"] += forgotten
        self.expect("nothing is missing", not missing and not forgotten)
        return (f"on again {'after a restart' if restart else 'by itself'} {seconds:.2f} s later; "
                f"missing {missing}, forgotten results {forgotten}")
