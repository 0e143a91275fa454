"""Who drives a scheduler: whichever thread waits for a reply, or one thread for all.

So callers on several threads share batches without a thread of the library's own, and a call from one thread runs in
that thread, where Ctrl-C and a debugger find it.
"""

import threading
from collections.abc import Callable

from omni.errors import InputError
from omni.generation.scheduler import Scheduler, Task

# Seconds between looks at whether the thread that drives has gone.
_PATIENCE = 0.05


class Dispatcher:
    """Takes tasks from any thread.

    Args:
        scheduler: what runs them.
        max_queue: most tasks that wait for a row; no limit when None.
    """

    def __init__(self, scheduler: Scheduler, max_queue: int | None = None):
        self.scheduler = scheduler
        self._max_queue = max_queue
        self._drives = threading.Lock()
        self._changed = threading.Condition()
        self._arrived: list[Task] = []
        self._thread: threading.Thread | None = None
        self._closing = False
        self.on_step: Callable[[], None] = lambda: None

    @property
    def waiting(self) -> int:
        """Tasks that have no row yet."""
        return len(self._arrived) + self.scheduler.waiting

    @property
    def running(self) -> int:
        """Tasks that have one."""
        return len(self.scheduler) - self.scheduler.waiting

    def submit(self, task: Task, *, wait: bool = True) -> None:
        """Queue a task.

        Args:
            task: what is to run.
            wait: for a place in a full queue; else it is refused.

        Raises:
            InputError: `queue_full`; `engine_closed`; `deadline`, it passed in the queue; the codes of
                `Scheduler.check`.
        """
        self.scheduler.check(task)
        with self._changed:
            while self._is_full():
                self._check_open()
                if not wait:
                    raise InputError("queue_full", f"{self._max_queue} requests wait already; try again later")
                task.deadline.check()
                self._changed.wait(_PATIENCE)
            self._check_open()
            self._arrived.append(task)
            self._changed.notify_all()

    def cancel(self, task: Task) -> None:
        """End a task, now if nobody is in the middle of a step, and else after it."""
        task.cancelled = True
        if self._drives.acquire(blocking=False):
            try:
                self._take_in()
                self.scheduler.sweep()
            finally:
                self._let_go()

    def run(self, until: Callable[[], bool]) -> None:
        """Drive, or wait for who drives, until something has come true; it is asked between steps."""
        while not until():
            if self._thread is None and self._drives.acquire(blocking=False):
                try:
                    self._take_in()
                    if not until():
                        self.scheduler.step()
                finally:
                    self._let_go()
            else:
                with self._changed:
                    if not until():
                        self._changed.wait(_PATIENCE)

    def start(self) -> None:
        """Drive from a thread of its own."""
        self._thread = threading.Thread(target=self._serve, name="omni-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more tasks, end those there are, and wait for the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._arrived and not len(self.scheduler) and not self._closing:
                    self._changed.wait()
                closing = self._closing
            with self._drives:
                self._take_in()
                if closing:
                    self.scheduler.cancel_all()
                else:
                    try:
                        self.scheduler.step()
                    except Exception as error:
                        # What fails for no reason of any task's own would fail again.
                        self.scheduler.cancel_all(error)
            with self._changed:
                self._changed.notify_all()
            self.on_step()
            if closing:
                return

    def _take_in(self) -> None:
        with self._changed:
            arrived, self._arrived = self._arrived, []
        for task in arrived:
            self.scheduler.add(task)

    def _let_go(self) -> None:
        self._drives.release()
        with self._changed:
            self._changed.notify_all()
        self.on_step()

    def _is_full(self) -> bool:
        return self._max_queue is not None and self.waiting >= self._max_queue

    def _check_open(self) -> None:
        if self._closing:
            raise InputError("engine_closed", "the engine was closed")
