"""Topics, the sender: each argument KEY=BODY is one message to the topic exchange `topic_logs`."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="topic_logs", exchange_type="topic")
for argument in sys.argv[1:]:
    key, _, body = argument.partition("=")
    channel.basic_publish(exchange="topic_logs", routing_key=key, body=body)
connection.close()
