"""RPC, a client: asks for the Fibonacci number of each argument, all at once, and prints the answers.

Every request has a correlation id of its own, and an answer with an unknown one is an error.
"""
import os
import sys
import uuid

import pika

pending = {}


def on_answer(channel, _method, properties, body):
    number = pending.pop(properties.correlation_id)
    print("answer", f"{number}={body.decode()}", flush=True)
    if not pending:
        channel.stop_consuming()


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
callback_queue = channel.queue_declare(queue="", exclusive=True).method.queue
channel.basic_consume(queue=callback_queue, on_message_callback=on_answer, auto_ack=True)
for number in sys.argv[1:]:
    correlation_id = str(uuid.uuid4())
    pending[correlation_id] = number
    channel.basic_publish(
        exchange="",
        routing_key="rpc_queue",
        properties=pika.BasicProperties(reply_to=callback_queue, correlation_id=correlation_id),
        body=number,
    )
channel.start_consuming()
connection.close()
