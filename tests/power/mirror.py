"""A mirror whose disk gets full: the broker goes on, the mirror is stale, and stands in again once it was made anew."""

import collections
import shutil

from broker import Broker, Caller
from cut import free_port
from machine import call, patiently

FULL_MEBIBYTES = 4
ROOM_MEBIBYTES = 256
TEXT = "say " + "x" * 4000
ORDERS_MAX = 5000
ORDERS_AFTER = 50
PAGE = 4096


def run(options, folder):
    results = collections.Counter()
    mount_point = folder / "second"
    mount_point.mkdir()
    for cycle in range(1, options.cycles + 1):
        call("mount", "-t", "tmpfs", "-o", f"size={FULL_MEBIBYTES}m", "tmpfs", mount_point)
        story = Story(options, folder / f"data-{cycle}", mount_point)
        try:
            words = story.tell()
        finally:
            if story.broker:
                story.broker.kill()
            patiently("umount", mount_point)
            shutil.rmtree(story.data, ignore_errors=True)
        results.update(story.results)
        print(f"mirror {cycle}: {words}", flush=True)
    print(f"{options.cycles} mirrors of {FULL_MEBIBYTES} MiB: "
          + ", ".join(f"{name} {count}" for name, count in sorted(results.items())))
    return not results["BROKEN"]


class Story:
    """One mirror, from the first order to the last look."""

    def __init__(self, options, data, mount_point):
        self.options, self.data, self.mount_point = options, data, mount_point
        self.port, self.broker, self.results = free_port(options.random), None, collections.Counter()
        self.acknowledged = []

    def start(self):
        settings = ("--mirror-dir", str(self.mount_point / "mirror"))
        self.broker = Broker(self.options.binary, self.data, self.port, settings=settings)
        self.admin = Caller(self.broker, (self.data / "admin.key").read_text().strip())

    def end(self):
        if self.options.random.random() < 0.5:
            self.broker.kill()
        else:
            self.broker.process.terminate()
            self.broker.process.wait()

    def tell(self):
        """Tells it; the words about it. What is not as it must be is counted as BROKEN."""
        self.start()
        self.server = self.admin.call("POST", "/v1/servers", {"name": "offline"})["id"]
        self.expect("in step at first", self.mirror() == "in_step")
        while self.mirror() == "in_step" and len(self.acknowledged) < ORDERS_MAX:
            self.publish()
        until = len(self.acknowledged)
        self.expect("stale once it is full", self.mirror() == "stale")
        self.expect("it is logged", self.broker.says("the mirror failed"))
        for _ in range(ORDERS_AFTER):
            self.publish()
        self.look("with a full mirror")
        self.end()
        call("mount", "-o", f"remount,size={ROOM_MEBIBYTES}m", self.mount_point)
        self.start()
        self.expect("in step after the restart", self.mirror() == "in_step")
        self.look("after the restart")
        self.publish()
        self.end()
        harmed = self.harm()
        self.start()
        self.look("after the damage")
        self.expect("in step at the end", self.mirror() == "in_step")
        self.results["orders acknowledged"] += len(self.acknowledged)
        return f"stale after {until} orders, {ORDERS_AFTER} more accepted; then {harmed}, and all {len(self.acknowledged)} are there"

    def expect(self, what, holds):
        if not holds:
            self.results["BROKEN"] += 1
            self.results[f"BROKEN {what}"] += 1

    def mirror(self):
        return self.admin.call("GET", "/readyz").get("mirror")

    def publish(self):
        key = f"order-{len(self.acknowledged)}"
        answer = self.admin.publish(key, {"commands": [{"server": self.server, "command": f"{TEXT} {key}"}]})
        self.acknowledged.append(answer["commands"][0]["id"])

    def look(self, when):
        found = {command["id"] for command in self.admin.commands(self.server)}
        missing = [command for command in self.acknowledged if command not in found]
        self.results["missing"] += len(missing)
        self.expect(f"{len(missing)} missing {when}", not missing)

    def harm(self):
        """One file of the data directory, which any of them may be, or all of it."""
        databases = sorted(path for path in self.data.iterdir() if path.suffix in (".redb", ".log"))
        path = self.options.random.choice([*databases, self.data])
        if path == self.data:
            shutil.rmtree(path)
            return "the data directory was removed"
        if self.options.random.random() < 0.5:
            path.unlink()
            return f"{path.name} was removed"
        content = bytearray(path.read_bytes())
        for at in range(PAGE, len(content), PAGE):
            content[at:at + PAGE] = bytes(len(content[at:at + PAGE]))
        path.write_bytes(content)
        return f"{path.name} was zeroed from its second page on"
