"""Images, loop devices, mounts and folders of this machine: made by name, undone by the same name."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
STATES_STOPPED = "Tt"


def call(*words):
    """Runs a tool; what it says is in the error when it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def workplace(parent):
    folder = tempfile.mkdtemp(prefix="fluxrelay-power-", dir=parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def make_image(path, file_system, mebibytes):
    with open(path, "wb") as file:
        file.truncate(mebibytes << 20)
    call(*MKFS[file_system], path)


def wait_stopped(pid):
    """Until every thread of a frozen process stands still: one may still be inside a sync."""
    threads = pathlib.Path(f"/proc/{pid}/task")
    while True:
        stats = [(thread / "stat").read_text() for thread in threads.iterdir()]
        if all(stat.rsplit(")", 1)[1].split()[0] in STATES_STOPPED for stat in stats):
            return
        time.sleep(0.001)


class Volume:
    """A file system in a file, mounted through a loop device."""

    def __init__(self, image, mount_point):
        self.image, self.mount_point = pathlib.Path(image), pathlib.Path(mount_point)
        self.mount_point.mkdir(exist_ok=True)
        # Direct: whatever the device was given is in the file, and only that, with no cache between.
        try:
            self.device = call("losetup", "--find", "--show", "--direct-io=on", self.image)
        except OSError:
            self.device = call("losetup", "--find", "--show", self.image)
        self.mounted = False
        try:
            self.mount()
        except OSError:
            self.close()
            raise

    def mount(self):
        # A device that has just been attached may be looked at by others.
        for attempt in range(5):
            try:
                call("mount", self.device, self.mount_point)
                break
            except OSError as error:
                if attempt == 4 or "busy" not in str(error):
                    raise
                time.sleep(0.1)
        self.mounted = True

    def unmount(self):
        if self.mounted:
            patiently("umount", self.mount_point)
            self.mounted = False

    def close(self):
        self.unmount()
        if self.device:
            patiently("losetup", "--detach", self.device)
            self.device = None

    def writes(self):
        """Writes that the device has completed, and requests that it has not."""
        fields = pathlib.Path(f"/sys/block/{pathlib.Path(self.device).name}/stat").read_text().split()
        return fields[4], fields[6], fields[8]

    def copy(self, to):
        """The image at one instant: nothing was written while it was copied. How often that had to be tried."""
        for attempt in range(1, 200):
            before = self.writes()
            if before[2] != "0":
                time.sleep(0.002)
                continue
            call("cp", "--sparse=always", self.image, to)
            if self.writes() == before:
                return attempt
        raise OSError(f"{self.device} never stands still")

    def free(self):
        status = os.statvfs(self.mount_point)
        return status.f_bavail * status.f_frsize


def patiently(*words):
    """What was killed a moment ago may still hold it."""
    for attempt in range(100):
        try:
            return call(*words)
        except OSError:
            if attempt == 99:
                raise
            time.sleep(0.05)


def drop_caches():
    call("sync")
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
