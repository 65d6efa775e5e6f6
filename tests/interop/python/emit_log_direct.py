"""Routing, the sender: each argument KEY=BODY is one message to the direct exchange `direct_logs`."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare(exchange="direct_logs", exchange_type="direct")
for argument in sys.argv[1:]:
    key, _, body = argument.partition("=")
    channel.basic_publish(exchange="direct_logs", routing_key=key, body=body)
connection.close()
