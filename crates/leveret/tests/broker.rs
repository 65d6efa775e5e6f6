//! A broker for each test, in this process, with lapin as the client.

use std::time::Duration;

use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use leveret::Broker;

async fn connect(broker: &Broker) -> Connection {
    Connection::connect(&broker.amqp_uri(), ConnectionProperties::default())
        .await
        .expect("the broker takes clients")
}

#[tokio::test]
async fn a_message_reaches_every_bound_queue() {
    let broker = Broker::builder().start().await.unwrap();
    let connection = connect(&broker).await;
    let channel = connection.create_channel().await.unwrap();
    channel
        .exchange_declare(
            "logs".into(),
            lapin::ExchangeKind::Fanout,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let mut consumers = Vec::new();
    for _ in 0..3 {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        assert!(queue.name().as_str().starts_with("amq.gen-"));
        channel
            .queue_bind(
                queue.name().clone(),
                "logs".into(),
                "".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let consumer = channel
            .basic_consume(
                queue.name().clone(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        consumers.push(consumer);
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for n in 0..100u32 {
        let confirm = channel
            .basic_publish(
                "logs".into(),
                "".into(),
                BasicPublishOptions::default(),
                &n.to_be_bytes(),
                BasicProperties::default(),
            )
            .await
            .unwrap();
        assert!(confirm.await.unwrap().is_ack());
    }
    for consumer in &mut consumers {
        for n in 0..100u32 {
            let delivery = futures_lite::StreamExt::next(consumer).await.unwrap().unwrap();
            assert_eq!(delivery.data, n.to_be_bytes());
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn exclusive_queues_go_with_their_connection_and_memory_with_them() {
    let broker = Broker::builder().start().await.unwrap();
    let connection = connect(&broker).await;
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let publish = channel.basic_publish(
        "".into(),
        queue.name().clone(),
        BasicPublishOptions::default(),
        &[7; 1_000_000],
        BasicProperties::default(),
    );
    publish.await.unwrap().await.unwrap();
    assert_eq!(broker.queue_count(), 1);
    assert!(broker.memory_octets() > 1_000_000);
    connection.close(200, "done".into()).await.unwrap();
    assert_eq!((broker.queue_count(), broker.memory_octets()), (0, 0), "close-ok comes when all is deleted");
    broker.shutdown().await;
}

#[tokio::test]
async fn several_brokers_live_in_one_process_and_are_dropped_without_ado() {
    let mut brokers = Vec::new();
    for _ in 0..3 {
        brokers.push(Broker::builder().start().await.unwrap());
    }
    let uris: std::collections::BTreeSet<_> = brokers.iter().map(Broker::amqp_uri).collect();
    assert_eq!(uris.len(), 3);
    for broker in &brokers {
        connect(broker).await;
    }
    drop(brokers);
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let broker = Broker::builder().start().await.unwrap();
    let address = broker.addresses()[0];
    let error = Broker::builder().listen(address).start().await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} is in use by another program"));
}

#[tokio::test]
async fn shutdown_tells_clients_with_320() {
    let broker = Broker::builder().start().await.unwrap();
    let connection = connect(&broker).await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let mut events = connection.events_listener();
    tokio::spawn(async move {
        while let Some(event) = futures_lite::StreamExt::next(&mut events).await {
            if let lapin::Event::Error(error) = event {
                let tell = tell.lock().unwrap().take();
                if let Some(tell) = tell {
                    tell.send(error.to_string()).unwrap();
                }
            }
        }
    });
    broker.shutdown().await;
    let error = tokio::time::timeout(Duration::from_secs(5), told).await.unwrap().unwrap();
    assert!(error.contains("CONNECTION_FORCED"), "{error}");
}
