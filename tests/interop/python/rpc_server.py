"""RPC, the server: answers each request on `rpc_queue`, a number n, with the n-th Fibonacci number."""
import os

import pika


def fibonacci(n):
    previous, current = 0, 1
    for _ in range(n):
        previous, current = current, previous + current
    return previous


def on_request(channel, method, request, body):
    number = int(body)
    print("request", number, flush=True)
    channel.basic_publish(
        exchange="",
        routing_key=request.reply_to,
        properties=pika.BasicProperties(correlation_id=request.correlation_id),
        body=str(fibonacci(number)),
    )
    channel.basic_ack(delivery_tag=method.delivery_tag)


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(queue="rpc_queue", durable=True, arguments={"x-queue-type": "quorum"})
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="rpc_queue", on_message_callback=on_request)
print("ready", flush=True)
channel.start_consuming()
