"""Deletes what the tutorials leave behind, so that each case begins on a clean broker."""
import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
for queue in ("hello", "task_queue", "rpc_queue"):
    channel.queue_delete(queue=queue)
for exchange in ("logs", "direct_logs", "topic_logs"):
    channel.exchange_delete(exchange=exchange)
connection.close()
