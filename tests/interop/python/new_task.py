"""Work queues, the sender: each argument is one persistent task on the durable queue `task_queue`."""
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True, arguments={"x-queue-type": "quorum"})
persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
for task in sys.argv[1:]:
    channel.basic_publish(exchange="", routing_key="task_queue", body=task, properties=persistent)
connection.close()
