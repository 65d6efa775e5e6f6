"""What the tests share: an application with a queue of its own, and its workers."""
import os
import queue
import signal
import subprocess
import sys
import threading
import uuid

import pytest
from application import make_application, settings_for

START_SECONDS_MAX = 60


class Worker:
    """A worker in a process group of its own."""

    def __init__(self, settings, log, *flags):
        name = f"{uuid.uuid4().hex}@localhost"
        command = [sys.executable, "-m", "celery", "-A", "application", "worker", "-n", name, "-l", "INFO", *flags]
        self.name = name
        self.lines = queue.Queue()
        self.log = log
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        while not (line := self.lines.get(timeout=START_SECONDS_MAX)).rstrip().endswith("ready."):
            assert line, f"the worker ended before it was ready, see {log}"

    def _read(self):
        with self.log.open("a", encoding="utf-8") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                self.lines.put(line)
        self.lines.put("")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends the worker as an operator does; its exit code is 0 if it took leave of the broker."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


class Place:
    """An application, and the workers that were started for it."""

    def __init__(self, folder, queue_type, results):
        self.folder = folder
        self.settings = settings_for(f"interop-{uuid.uuid4().hex}", queue_type, results)
        self.app = make_application(self.settings)
        self.workers = []

    def task(self, name):
        return self.app.tasks[f"application.{name}"]

    def signature(self, name, *arguments):
        return self.task(name).s(*arguments)

    def worker(self, *flags):
        worker = Worker(self.settings, self.folder / "worker.log", *flags)
        self.workers.append(worker)
        return worker


@pytest.fixture
def place(tmp_path):
    """Makes places: `place(queue_type=..., results=...)`; results are kept in files unless told otherwise."""
    places = []

    def make(queue_type="classic", results=None):
        results_folder = tmp_path / "results"
        results_folder.mkdir(exist_ok=True)
        places.append(Place(tmp_path, queue_type, results or f"file://{results_folder}"))
        return places[-1]

    yield make
    for made in places:
        for worker in made.workers:
            if worker.process.poll() is None:
                worker.kill()
        made.app.close()
