"""A disk that fails writes: the loop device's own file can take no more, so errors come from below the file system."""

import collections
import random
import time

import machine
from broker import Broker, Caller, Ended
from cut import free_port
from load import PUBLISHERS, Poller, Publisher, World
from machine import Volume, call, drop_caches

IMAGE_MEBIBYTES = 512
ROOMY = "size=2g"
END_SECONDS_MAX = 60


def run(options, folder):
    results = collections.Counter()
    below = folder / "below"
    below.mkdir()
    call("mount", "-t", "tmpfs", "-o", ROOMY, "fluxrelay-power", below)
    try:
        for cycle in range(1, options.cycles + 1):
            image = below / "image"
            machine.make_image(image, options.file_system, IMAGE_MEBIBYTES)
            volume = Volume(image, folder / "mount")
            story = Story(options, folder, below, volume)
            try:
                words = story.tell()
            finally:
                story.end()
                call("mount", "-o", f"remount,{ROOMY}", below)
                volume.close()
                image.unlink()
            results.update(story.results)
            print(f"failure {cycle}: {words}", flush=True)
    finally:
        machine.patiently("umount", below)
    print(f"{options.cycles} failing disks, {options.file_system}: "
          + ", ".join(f"{name} {count}" for name, count in sorted(results.items())))
    return not results["BROKEN"]


class Story:
    """One disk, from the first order to the last look."""

    def __init__(self, options, folder, below, volume):
        self.options, self.folder, self.below, self.volume = options, folder, below, volume
        self.port, self.broker, self.results = free_port(options.random), None, collections.Counter()
        self.world, self.threads = World(folder), []

    def start(self):
        self.broker = Broker(self.options.binary, self.volume.mount_point / "data", self.port)

    def end(self):
        self.world.end(self.threads)
        if self.broker:
            self.broker.kill()

    def expect(self, what, holds):
        if not holds:
            self.results["BROKEN"] += 1
            self.results[f"BROKEN {what}"] += 1

    def tell(self):
        chance = self.options.random
        self.start()
        self.key = (self.volume.mount_point / "data" / "admin.key").read_text().strip()
        made = Caller(self.broker, self.key).call("POST", "/v1/servers", {"name": "polled"})
        self.server = made["id"]
        self.threads = [Poller(self.world, self.broker, made["token"])]
        self.threads += [Publisher(self.world, self.broker, self.key, [self.server], name,
                                   random.Random(chance.random())) for name in range(PUBLISHERS)]
        for thread in self.threads:
            thread.start()
        self.world.open.set()
        time.sleep(chance.uniform(0.05, 0.8))
        self.fail_writes()
        words = self.await_end()
        self.world.end(self.threads)
        call("mount", "-o", f"remount,{ROOMY}", self.below)
        warm = self.look("warm")
        self.volume.unmount()
        drop_caches()
        self.volume.mount()
        cold = self.look("cold")
        self.results["orders acknowledged"] += len(self.world.acknowledged)
        return f"{len(self.world.acknowledged)} orders; {words}; {warm}; {cold}"

    def fail_writes(self):
        """What the file has already may be written again; a block that is new to it is an error."""
        for pages in range(0, 1024, 4):
            used = int(call("df", "--output=used", "--block-size=4096", self.below).split()[-1])
            try:
                return call("mount", "-o", f"remount,size={(used + pages) * 4096}", self.below)
            except OSError:
                # It has more by now: nobody waits while it is asked.
                continue
        raise OSError("the disk grows faster than it can be stopped")

    def await_end(self):
        deadline = time.monotonic() + END_SECONDS_MAX
        while self.broker.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.broker.process.poll() is None:
            self.broker.kill()
            self.results["did not meet an error"] += 1
            return "it met no error"
        words = self.broker.words()
        self.results["ended by itself"] += 1
        self.expect("exit code", self.broker.process.returncode == 1)
        self.expect("reason", "cannot" in words or "no space left" in words)
        return words

    def look(self, name):
        """Starts it; everything that was acknowledged has to be there."""
        try:
            self.start()
        except Ended as ended:
            # A file system that went read-only can be written again only once it was mounted again.
            read_only = "Read-only file system" in str(ended) or not self.is_writable()
            self.expect(f"{name} start", name == "warm" and read_only)
            self.results[f"{name}: the file system is read-only"] += 1
            return f"{name}: {ended}"
        statuses = {command["id"]: command["status"]
                    for command in Caller(self.broker, self.key).commands(self.server)}
        missing = sum(id not in statuses for _, _, ids in self.world.acknowledged for id in ids)
        forgotten = sum(statuses.get(id) != "completed" for id in self.world.confirmed)
        self.results[f"{name}: missing"] += missing
        self.results[f"{name}: forgotten results"] += forgotten
        self.results[f"{name}: started"] += 1
        self.expect(f"{name}: nothing is missing", not missing and not forgotten)
        self.broker.kill()
        return f"{name}: missing {missing}, forgotten results {forgotten}"

    def is_writable(self):
        probe = self.volume.mount_point / "probe"
        try:
            probe.write_bytes(b"")
            probe.unlink()
            return True
        except OSError:
            return False
