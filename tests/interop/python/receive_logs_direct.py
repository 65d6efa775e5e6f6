"""Routing, a subscriber: prints the messages of the direct exchange `direct_logs` that its arguments, binding keys, ask for."""
import os
import sys

import pika


def on_message(_channel, method, _properties, body):
    print("received", f"{method.routing_key}={body.decode()}", flush=True)


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="direct_logs", exchange_type="direct")
queue = channel.queue_declare(queue="", exclusive=True).method.queue
for key in sys.argv[1:]:
    channel.queue_bind(exchange="direct_logs", queue=queue, routing_key=key)
channel.basic_consume(queue=queue, on_message_callback=on_message, auto_ack=True)
print("ready", queue, flush=True)
channel.start_consuming()
