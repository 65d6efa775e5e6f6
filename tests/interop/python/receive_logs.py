"""Publish/subscribe, a subscriber: prints what the fanout exchange `logs` brings to a queue of its own."""
import os

import pika


def on_message(_channel, _method, _properties, body):
    print("received", body.decode(), flush=True)


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="logs", exchange_type="fanout")
queue = channel.queue_declare(queue="", exclusive=True).method.queue
channel.queue_bind(exchange="logs", queue=queue)
channel.basic_consume(queue=queue, on_message_callback=on_message, auto_ack=True)
print("ready", queue, flush=True)
channel.start_consuming()
