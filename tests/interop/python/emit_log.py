"""Publish/subscribe, the sender: each argument is one message to the fanout exchange `logs`."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="logs", exchange_type="fanout")
for body in sys.argv[1:]:
    channel.basic_publish(exchange="logs", routing_key="", body=body)
connection.close()
