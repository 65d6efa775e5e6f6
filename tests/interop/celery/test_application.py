"""What a Celery application must come to, whichever broker is behind it."""
import os
import time

import pytest
from application import PRIORITY_MAX
from celery import chain, chord, group

RESULT_SECONDS_MAX = 60


def result_of(asked):
    return asked.get(timeout=RESULT_SECONDS_MAX)


@pytest.mark.parametrize("results", [None, "rpc://"], ids=["results in files", "results over RPC"])
def test_results_come_back(place, results):
    here = place(results=results)
    here.worker()
    asked = [here.task("add").delay(number, number) for number in range(50)]
    assert [result_of(each) for each in asked] == [2 * number for number in range(50)]


@pytest.mark.parametrize("results", [None, "rpc://"], ids=["results in files", "results over RPC"])
def test_an_exception_comes_back(place, results):
    here = place(results=results)
    here.worker()
    with pytest.raises(ValueError, match="no good"):
        result_of(here.task("fail").delay("no good"))


def test_tasks_sent_before_there_is_a_worker_wait_for_one(place):
    here = place()
    asked = here.task("add").delay(20, 22)
    here.worker()
    assert result_of(asked) == 42


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_task_is_retried(place, queue_type):
    here = place(queue_type)
    here.worker()
    assert result_of(here.task("succeed_at_last").delay(3)) == 4


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_task_waits_for_its_eta(place, queue_type):
    here = place(queue_type)
    here.worker()
    sent = time.time()
    late = here.task("now").apply_async(countdown=3)
    soon = here.task("now").delay()
    assert result_of(soon) < sent + 3 <= result_of(late) + 0.05


def test_a_chain_hands_on(place):
    here = place()
    here.worker()
    work = chain(here.signature("add", 1, 2), here.signature("add", 3), here.signature("add", 4), app=here.app)
    assert result_of(work.apply_async()) == 10


def test_a_group_comes_back_in_order(place):
    here = place()
    here.worker("--concurrency", "2")
    work = group([here.signature("add", number, 1) for number in range(20)], app=here.app)
    assert result_of(work.apply_async()) == list(range(1, 21))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_chord_ends_with_its_body(place, queue_type):
    here = place(queue_type)
    here.worker("--concurrency", "2")
    work = chord([here.signature("add", number, number) for number in range(10)], app=here.app)
    assert result_of(work(here.signature("total"))) == 90


def test_high_priorities_go_first(place):
    here = place("priority")
    notes = here.folder / "notes"
    priorities = [0, 5, 9, 1, 5, 10, 3, 0]
    asked = [
        here.task("note").apply_async(args=[str(notes), f"{priority} {number}"], priority=priority)
        for number, priority in enumerate(priorities)
    ]
    here.worker("--concurrency", "1", "--pool", "solo")
    for each in asked:
        result_of(each)
    expected = sorted(enumerate(priorities), key=lambda entry: (-min(entry[1], PRIORITY_MAX), entry[0]))
    assert notes.read_text().splitlines() == [f"{priority} {number}" for number, priority in expected]


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_the_task_of_a_killed_worker_is_done_by_another(place, queue_type):
    here = place(queue_type)
    pipe = here.folder / "pipe"
    os.mkfifo(pipe)
    first = here.worker("--concurrency", "1")
    asked = here.task("hang_at_first").delay(str(pipe))
    assert pipe.read_text() == "it runs"
    first.kill()
    here.worker("--concurrency", "1")
    assert result_of(asked) is True


def test_workers_answer_to_remote_control(place):
    here = place()
    workers = [here.worker(), here.worker()]
    names = [worker.name for worker in workers]
    answers = here.app.control.ping(destination=names, timeout=RESULT_SECONDS_MAX, limit=2)
    assert sorted(next(iter(answer)) for answer in answers) == sorted(names)


def test_a_revoked_task_does_not_run(place):
    here = place()
    worker = here.worker()
    asked = here.task("add").apply_async(args=[1, 1], countdown=2)
    answers = here.app.control.revoke(
        asked.id, destination=[worker.name], reply=True, timeout=RESULT_SECONDS_MAX, limit=1
    )
    [answer] = answers
    assert asked.id in answer[worker.name]["ok"]
    with pytest.raises(Exception, match="revoked"):
        result_of(asked)


def test_events_tell_what_workers_do(place):
    here = place()
    here.worker("--task-events")
    told = []
    with here.app.connection() as connection:
        receiver = here.app.events.Receiver(connection, handlers={"*": told.append})
        with receiver.consumer_context(limit=None, timeout=None, wakeup=False) as (consuming, _, _):
            asked = here.task("add").delay(1, 2)
            result_of(asked)
            deadline = time.monotonic() + RESULT_SECONDS_MAX
            mine = []
            while "task-succeeded" not in mine and time.monotonic() < deadline:
                consuming.drain_events(timeout=RESULT_SECONDS_MAX)
                mine = [event["type"] for event in told if event.get("uuid") == asked.id]
    assert mine == ["task-received", "task-started", "task-succeeded"]


def test_a_worker_takes_leave_in_order(place):
    here = place()
    worker = here.worker()
    result_of(here.task("add").delay(1, 2))
    assert worker.stop() == 0
