"""Writes every message of the fanout exchange `logs`, a line each, to a file until COUNT have come.

Usage: record_logs.py PATH COUNT

A header tells the one line that had no newline at the end.
"""
import os
import sys

import pika

ACKED_TOGETHER = 100

path, count = sys.argv[1], int(sys.argv[2])
received = 0


def on_message(channel, method, properties, body):
    global received
    has_newline = "x-leveret-no-newline" not in (properties.headers or {})
    sink.write(body + b"\n" if has_newline else body)
    received += 1
    if received % ACKED_TOGETHER == 0 or received == count:
        channel.basic_ack(delivery_tag=method.delivery_tag, multiple=True)
    if received == count:
        channel.stop_consuming()


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="logs", exchange_type="fanout")
queue = channel.queue_declare(queue="", exclusive=True).method.queue
channel.queue_bind(exchange="logs", queue=queue)
channel.basic_qos(prefetch_count=5 * ACKED_TOGETHER)
channel.basic_consume(queue=queue, on_message_callback=on_message)
print("ready", queue, flush=True)
with open(path, "wb") as sink:
    channel.start_consuming()
print("received", received, flush=True)
connection.close()
