//! Deliveries are settled once, and as their acknowledgements named them when they came.

mod client;

use client::{Client, names};
use leveret_wire::{
    ContentHeader, FrameKind, Method,
    method::{basic, queue, tx},
    write_frame,
};

fn publish(client: &mut Client) {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets: 0, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    client.send(&octets);
}

/// A transactional channel with so many messages in the queue.
fn transactional(messages: usize) -> Client {
    let mut client = Client::opened();
    client.call(1, tx::Select {});
    for _ in 0..messages {
        publish(&mut client);
    }
    client.call(1, tx::Commit {});
    client
}

fn get(client: &mut Client) -> Vec<&'static str> {
    names(&client.call(1, basic::Get { queue: "q".into(), ..Default::default() }))
}

#[test]
fn an_acknowledgement_of_everything_leaves_out_what_comes_later() {
    let mut client = transactional(2);
    assert_eq!(get(&mut client), ["BasicGetOk"]);
    client.call(1, basic::Ack { delivery_tag: 0, multiple: true });
    assert_eq!(get(&mut client), ["BasicGetOk"]);
    assert_eq!(names(&client.call(1, tx::Commit {})), ["TxCommitOk"]);
    client.call(1, basic::Recover { requeue: true });
    assert_eq!(get(&mut client), ["BasicGetOk"], "the second message was not acknowledged");
    assert_eq!(get(&mut client), ["BasicGetEmpty"]);
}

#[test]
fn recovering_leaves_out_what_a_transaction_settles() {
    let mut client = transactional(1);
    assert_eq!(get(&mut client), ["BasicGetOk"]);
    client.call(1, basic::Ack { delivery_tag: 1, multiple: false });
    client.call(1, basic::Recover { requeue: true });
    assert_eq!(get(&mut client), ["BasicGetEmpty"], "the delivery is still under way");
    assert_eq!(names(&client.call(1, tx::Commit {})), ["TxCommitOk"]);
    assert_eq!(client.engine.memory_octets(), 0);
}

#[test]
fn a_prefetch_for_the_channel_leaves_out_consumers_whose_queue_is_gone() {
    let mut client = Client::opened();
    publish(&mut client);
    let consumed = client.call(1, basic::Consume { queue: "q".into(), ..Default::default() });
    assert_eq!(names(&consumed), ["BasicConsumeOk", "BasicDeliver"]);
    // In one read, so that the consumer is not cancelled yet when its channel gets a limit.
    let mut octets = Vec::new();
    for method in [
        Method::from(queue::Delete { queue: "q".into(), ..Default::default() }),
        basic::Qos { prefetch_octets: 0, prefetch_count: 5, global: true }.into(),
        basic::Ack { delivery_tag: 1, multiple: false }.into(),
    ] {
        method.write_frame(1, &mut octets);
    }
    assert_eq!(names(&client.send(&octets)), ["QueueDeleteOk", "BasicQosOk"]);
}
