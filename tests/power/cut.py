"""Power cuts: the process is frozen, its block device copied, and it goes on from the copy."""

import collections
import random
import socket
import time

import peers
from broker import Broker, Caller, Ended
from load import PUBLISHERS, Plugin, Poller, Publisher, World
from machine import Volume, make_image

IMAGE_MEBIBYTES = 1024
# Every so many cuts, everything since the beginning is looked at.
ALL_EVERY = 50
REPLAYS = 10
SETTLE_SECONDS_MAX = 90


def free_port(chance):
    """Below the ports that outgoing connections get: nobody else is to be given it while the broker is down."""
    while True:
        port = chance.randint(20_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class Disk:
    """The volume of now; a cut replaces it by what its device had."""

    def __init__(self, folder, file_system):
        self.folder, self.number, self.copies = folder, 0, 0
        make_image(folder / "image-0", file_system, IMAGE_MEBIBYTES)
        self.volume = Volume(folder / "image-0", folder / "mount")

    def cut(self, process):
        """Power off under a frozen process, power on again. An error of the mount is an error of the run."""
        self.number += 1
        image = self.folder / f"image-{self.number}"
        self.copies += self.volume.copy(image)
        process.kill()
        self.volume.close()
        self.volume.image.unlink()
        self.volume = Volume(image, self.folder / "mount")

    def data(self):
        return self.folder / "mount" / "data"


def run(options, folder):
    if options.peer:
        return peers.run(options, folder)
    chance = options.random
    disk = Disk(folder, options.file_system)
    port = free_port(chance)
    start = lambda: Broker(options.binary, disk.data(), port, options.preload)
    broker = start()
    key = (disk.data() / "admin.key").read_text().strip()
    admin = Caller(broker, key)
    made = [admin.call("POST", "/v1/servers", {"name": name}) for name in ("pushed", "polled", "absent")]
    servers = [server["id"] for server in made]
    world = World(folder)
    plugin = Plugin(options.binary, broker, made[0]["token"], folder)
    threads = [Poller(world, broker, made[1]["token"])]
    threads += [Publisher(world, broker, key, servers, name, random.Random(chance.random()))
                for name in range(PUBLISHERS)]
    check = Check(world, key, servers)
    begun = time.monotonic()
    try:
        for thread in threads:
            thread.start()
        for cycle in range(1, options.cycles + 1):
            world.open.set()
            time.sleep(chance.uniform(0.1, 0.8))
            broker.freeze()
            world.open.clear()
            # Answers that were sent before are still on their way to who reads them.
            time.sleep(0.03)
            acknowledged, confirmed = len(world.acknowledged), len(world.confirmed)
            disk.cut(broker)
            try:
                broker = start()
            except Ended as ended:
                print(f"cut {cycle}: NO START: {ended}", flush=True)
                return False
            check.since_last_cut(broker, acknowledged, confirmed)
            if not check.is_clean():
                print(f"cut {cycle}: {check}", flush=True)
                return False
            if cycle % ALL_EVERY == 0:
                check.all(broker)
            print(f"cut {cycle}: {acknowledged} orders acknowledged, {confirmed} results confirmed, {check}", flush=True)
        check.settle(broker, plugin)
        world.end(threads)
        check.since_last_cut(broker, len(world.acknowledged), len(world.confirmed))
        check.all(broker)
    finally:
        world.end([])
        plugin.stop()
        broker.kill()
        disk.volume.close()
    seconds = time.monotonic() - begun
    print(f"{options.cycles} power cuts on {options.file_system}: {len(world.acknowledged)} orders acknowledged, "
          f"{len(world.confirmed)} results confirmed over REST, {len(plugin.lines())} commands run by the plugin, {check}; "
          f"{disk.copies} copies, {seconds:.0f} s")
    return check.is_clean()


class Check:
    """Compares the broker with the world."""

    def __init__(self, world, key, servers):
        self.world, self.key, self.servers = world, key, servers
        self.orders = self.results = 0
        self.bad = collections.Counter()

    def __str__(self):
        bad = self.bad + collections.Counter({
            "offered again": len(self.world.offered_again), "refused": len(self.world.wrong)})
        return "missing 0, phantom 0" if not bad else f"BROKEN {dict(bad)} {self.world.wrong[:3]}"

    def is_clean(self):
        return str(self) == "missing 0, phantom 0"

    def since_last_cut(self, broker, acknowledged, confirmed):
        """Each order and result that was acknowledged before this cut and was not looked up yet."""
        caller = Caller(broker, self.key)
        orders = self.world.acknowledged[self.orders:acknowledged]
        statuses = {}
        for key, id, ids in orders:
            try:
                found = [command["id"] for command in caller.call("GET", f"/v1/orders/{id}")["commands"]]
            except Exception as error:
                found = str(error)
            self.bad["missing"] += found != ids
        for id in self.world.confirmed[self.results:confirmed]:
            try:
                statuses[id] = caller.call("GET", f"/v1/commands/{id}")["status"]
            except Exception as error:
                statuses[id] = str(error)
        self.bad["forgotten results"] += sum(status != "completed" for status in statuses.values())
        for key, id, ids in orders[:REPLAYS]:
            try:
                again = caller.publish(key, self.world.asked[key])["id"]
            except Exception as error:
                again = str(error)
            self.bad["forgotten keys"] += again != id
        self.orders, self.results = acknowledged, confirmed

    def all(self, broker):
        """Every command that the broker has against every one that was asked for and acknowledged."""
        caller = Caller(broker, self.key)
        acknowledged = {id for _, _, ids in list(self.world.acknowledged) for id in ids}
        texts, ids = collections.Counter(), set()
        for server in self.servers:
            for command in caller.commands(server):
                if command["id"] not in ids:
                    ids.add(command["id"])
                    texts[command["command"]] += 1
        with self.world.lock:
            possible = {command["command"] for order in self.world.asked.values() for command in order["commands"]}
        self.bad["missing"] += len(acknowledged - ids)
        self.bad["phantom"] += sum(text not in possible for text in texts)
        self.bad["twice"] += sum(count > 1 for count in texts.values())

    def settle(self, broker, plugin):
        """The plugin runs everything, each command once."""
        caller = Caller(broker, self.key)
        for _ in range(SETTLE_SECONDS_MAX):
            statuses = collections.Counter(command["status"] for command in caller.commands(self.servers[0]))
            if not statuses - collections.Counter(completed=statuses["completed"]):
                break
            time.sleep(1)
        else:
            self.bad["not ended"] += 1
        runs = collections.Counter(plugin.lines())
        self.bad["run twice"] += sum(count > 1 for count in runs.values())
        self.bad["not run"] += statuses["completed"] != len(runs)
