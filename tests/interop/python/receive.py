"""Hello world, the receiver: prints what arrives on the queue `hello`, acknowledged as it is delivered."""
import os

import pika


def on_message(_channel, _method, _properties, body):
    print("received", body.decode(), flush=True)


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(queue="hello", durable=True, arguments={"x-queue-type": "quorum"})
channel.basic_consume(queue="hello", on_message_callback=on_message, auto_ack=True)
print("ready", flush=True)
channel.start_consuming()
