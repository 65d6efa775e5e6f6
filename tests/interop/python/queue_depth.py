"""Prints `MESSAGES CONSUMERS` of a queue that must exist."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
found = connection.channel().queue_declare(queue=sys.argv[1], passive=True).method
print(found.message_count, found.consumer_count)
connection.close()
