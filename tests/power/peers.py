"""Power cuts of other brokers, as durable as they can be asked to be, through the same disk."""

import os
import random
import signal
import socket
import subprocess
import threading
import time

import machine

CONNECTIONS = 6


class Peer:
    """A server whose jobs have a number each. `put` returns once it was acknowledged."""

    def __init__(self, binary, data, port, preload):
        data.mkdir(exist_ok=True)
        environment = {**os.environ, "LD_PRELOAD": preload} if preload else None
        self.process = subprocess.Popen(self.command(binary, data, port), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env=environment)
        for _ in range(6000):
            try:
                if self.is_ready(self.line(self.connect(port), self.HELLO)):
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                raise OSError(f"it ended with {self.process.returncode}")
            time.sleep(0.01)
        raise OSError("it does not listen")

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        machine.wait_stopped(self.process.pid)

    def kill(self):
        self.process.kill()
        self.process.wait()

    @staticmethod
    def connect(port):
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection.makefile("rwb")

    @staticmethod
    def line(stream, request):
        stream.write(request)
        stream.flush()
        answer = stream.readline()
        if not answer.endswith(b"\n"):
            raise OSError("the connection ended")
        return answer

    @staticmethod
    def answer(answer, yes, no):
        """Neither is an error of this script, not a loss."""
        if not answer.startswith((yes, no)):
            raise OSError(answer)
        return answer.startswith(yes)


class Redis(Peer):
    HELLO = b"EXISTS hello\r\n"

    def command(self, binary, data, port):
        return [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--save", "",
                "--appendonly", "yes", "--appendfsync", "always"]

    def put(self, stream, number):
        answer = self.line(stream, b"SET order-%d paid NX\r\n" % number)
        if not answer.startswith(b"+OK"):
            raise OSError(answer)
        return number

    def has(self, stream, id):
        return self.answer(self.line(stream, b"EXISTS order-%d\r\n" % id), b":1", b":0")

    def is_ready(self, answer):
        # It listens while it still reads its file.
        return answer.startswith(b":")


class Beanstalkd(Peer):
    HELLO = b"peek 18446744073709551615\r\n"

    def command(self, binary, data, port):
        return [binary, "-l", "127.0.0.1", "-p", str(port), "-b", str(data), "-f0"]

    def put(self, stream, number):
        body = b"order-%d" % number
        answer = self.line(stream, b"put 1 0 60 %d\r\n%s\r\n" % (len(body), body))
        if not answer.startswith(b"INSERTED"):
            raise OSError(answer)
        return int(answer.split()[1])

    def has(self, stream, id):
        answer = self.line(stream, b"peek %d\r\n" % id)
        found = self.answer(answer, b"FOUND", b"NOT_FOUND")
        if found:
            stream.read(int(answer.split()[2]) + 2)
        return found

    def is_ready(self, answer):
        return answer.startswith(b"NOT_FOUND") or answer.startswith(b"FOUND")


KINDS = {"redis": Redis, "beanstalkd": Beanstalkd}


def publish(peer, port, place, acknowledged, stop, chance):
    """Puts jobs until the connection breaks; the next cut has new numbers."""
    try:
        stream = peer.connect(port)
        while not stop.is_set():
            place[0] += 1
            acknowledged.append(peer.put(stream, place[0]))
            time.sleep(chance.uniform(0, 0.01))
    except OSError:
        pass


def run(options, folder):
    from cut import Disk, free_port

    chance, kind = options.random, KINDS[options.peer]
    disk, port = Disk(folder, options.file_system), free_port(options.random)
    start = lambda: kind(options.binary, disk.data(), port, options.preload)
    peer, lost, total, begun = start(), 0, 0, time.monotonic()
    places = [[connection << 32] for connection in range(CONNECTIONS)]
    try:
        for cycle in range(1, options.cycles + 1):
            acknowledged, stop = [], threading.Event()
            threads = [threading.Thread(target=publish, daemon=True, args=(
                peer, port, place, acknowledged, stop, random.Random(chance.random()))) for place in places]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.1, 0.8))
            peer.freeze()
            time.sleep(0.03)
            ids = list(acknowledged)
            disk.cut(peer)
            for thread in threads:
                thread.join()
            peer = start()
            stream = peer.connect(port)
            missing = sum(not peer.has(stream, id) for id in ids)
            lost, total = lost + missing, total + len(ids)
            print(f"cut {cycle}: {total} orders acknowledged, missing {lost}", flush=True)
    finally:
        peer.kill()
        disk.volume.close()
    seconds = time.monotonic() - begun
    print(f"{options.cycles} power cuts of {options.peer} on {options.file_system}: {total} orders acknowledged, "
          f"missing {lost}; {seconds:.0f} s")
    return lost == 0
