"""Hello world, the sender: each argument is one message to the queue `hello`."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(queue="hello", durable=True, arguments={"x-queue-type": "quorum"})
for body in sys.argv[1:]:
    channel.basic_publish(exchange="", routing_key="hello", body=body)
connection.close()
