"""Work queues, a worker: one task at a time, acknowledged when it is done.

Every dot of a task stands for SECONDS_PER_DOT of work (one second unless the environment says otherwise).
"""
import os
import time

import pika

SECONDS_PER_DOT = float(os.environ.get("SECONDS_PER_DOT", "1"))


def on_task(channel, method, _properties, body):
    task = body.decode()
    print("redelivered" if method.redelivered else "received", task, flush=True)
    time.sleep(task.count(".") * SECONDS_PER_DOT)
    print("done", task, flush=True)
    channel.basic_ack(delivery_tag=method.delivery_tag)


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True, arguments={"x-queue-type": "quorum"})
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="task_queue", on_message_callback=on_task)
print("ready", flush=True)
channel.start_consuming()
