"""A Celery application: its settings come from the environment, so that tests and workers agree on them."""
import os
import time
from pathlib import Path

from celery import Celery, shared_task
from kombu import Queue

PRIORITY_MAX = 10


def make_application(settings):
    """The application for a queue of its own; `settings` are what `settings_for` makes."""
    name = settings["CELERY_QUEUE"]
    arguments = {"x-max-priority": PRIORITY_MAX} if settings["CELERY_QUEUE_TYPE"] == "priority" else None
    application = Celery("interop", broker=os.environ["AMQP_URL"], backend=settings["CELERY_RESULTS"])
    application.conf.update(
        broker_connection_retry_on_startup=True,
        result_expires=600,
        task_default_queue=name,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
    )
    if settings["CELERY_QUEUE_TYPE"] == "quorum":
        # Celery takes its way of delayed delivery for quorum queues from this.
        application.conf.update(
            task_default_queue_type="quorum", worker_detect_quorum_queues=True, task_default_exchange_type="topic"
        )
    else:
        application.conf.task_queues = [Queue(name, routing_key=name, queue_arguments=arguments)]
        application.conf.task_default_routing_key = name
    return application


def settings_for(queue, queue_type, results):
    return {"CELERY_QUEUE": queue, "CELERY_QUEUE_TYPE": queue_type, "CELERY_RESULTS": results}


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task
def fail(reason):
    raise ValueError(reason)


@shared_task
def now():
    return time.time()


@shared_task(bind=True)
def succeed_at_last(self, failures):
    """Fails so many times, and gives how often it was tried."""
    if self.request.retries < failures:
        raise self.retry(countdown=1, max_retries=failures)
    return self.request.retries + 1


@shared_task
def note(file, line):
    """Leaves a mark of when it ran among the others."""
    with Path(file).open("a", encoding="utf-8") as notes:
        notes.write(f"{line}\n")


@shared_task(bind=True)
def hang_at_first(self, pipe):
    """Says through a named pipe that it runs, and ends only if it was delivered before."""
    redelivered = self.request.delivery_info["redelivered"]
    if not redelivered:
        Path(pipe).write_text("it runs", encoding="utf-8")
        time.sleep(3600)
    return redelivered


if "CELERY_QUEUE" in os.environ:
    app = make_application(os.environ)
