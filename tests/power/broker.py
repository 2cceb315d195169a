"""A broker process, and its REST with nothing but the standard library."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time

import machine

START_SECONDS_MAX = 60
CALL_SECONDS_MAX = 20
LOGIN_TRIES_MAX = 10


class Refused(Exception):
    """An answer that is not a success: status, stable code, seconds to wait."""

    def __init__(self, status, code, retry_after, detail):
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.retry_after = status, code, retry_after


class Ended(Exception):
    """The process ended by itself."""


class Broker:
    def __init__(self, binary, data, port, preload=None, settings=()):
        self.port = port
        command = [binary, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", str(data),
                   "--server-calls-per-second", "0", "--log-format", "text", *settings]
        environment = {**os.environ, "LD_PRELOAD": preload} if preload else None
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=environment)
        self.log = []
        self.listening = threading.Event()
        self.readers = [threading.Thread(target=self.read, args=(pipe,), daemon=True)
                        for pipe in (self.process.stdout, self.process.stderr)]
        for reader in self.readers:
            reader.start()
        self.await_start()

    def read(self, pipe):
        for line in pipe:
            self.log.append(line.rstrip())
            if "listening on http" in line:
                self.listening.set()

    def await_start(self):
        for _ in range(START_SECONDS_MAX * 100):
            if self.listening.wait(0.01):
                return
            if self.process.poll() is not None:
                raise Ended(self.words())
        self.kill()
        raise Ended(f"it does not listen: {self.words()}")

    def says(self, words):
        """Whether such a line comes: its pipe is read by a thread of its own."""
        for _ in range(START_SECONDS_MAX * 100):
            if any(words in line for line in list(self.log)):
                return True
            time.sleep(0.01)
        return False

    def words(self):
        """How it ended and what it said last."""
        self.process.wait()
        for reader in self.readers:
            reader.join(5)
        errors = [line for line in self.log if line.startswith("error:")] or self.log[-3:]
        return f"exit code {self.process.returncode}: " + " | ".join(errors)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        machine.wait_stopped(self.process.pid)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS_MAX)


class Caller:
    """One connection with one credential; it connects again after every failure."""

    def __init__(self, broker, credential):
        self.port, self.credential, self.connection = broker.port, credential, None

    def call(self, method, path, body=None, headers=None):
        """Comes again when it is told to, if all that is in the way are other logins."""
        for _ in range(LOGIN_TRIES_MAX):
            try:
                return self.call_once(method, path, body, headers)
            except Refused as refused:
                if refused.code != "login_busy":
                    raise
                time.sleep(float(refused.retry_after or 1))
        return self.call_once(method, path, body, headers)

    def call_once(self, method, path, body, headers):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS_MAX)
        headers = {"Authorization": f"Bearer {self.credential}", **(headers or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise
        found = json.loads(text) if text else {}
        if answer.status >= 300:
            raise Refused(answer.status, found.get("code"), answer.headers["Retry-After"], found.get("detail"))
        return found

    def publish(self, key, order):
        return self.call("POST", "/v1/orders", order, {"Idempotency-Key": key})

    def commands(self, server):
        """Every command of a server."""
        cursor = ""
        while True:
            page = self.call("GET", f"/v1/servers/{server}/commands?limit=1000{cursor}")
            yield from page["commands"]
            if not page.get("next_cursor"):
                return
            cursor = f"&cursor={page['next_cursor']}"
