//! That no more messages are unconfirmed than `--confirm` allows, as seen on the wire.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use leveret_wire::{FrameKind, Method, decode_frame};

use crate::perf::{Bench, number, perf, summary};

/// What passed through the proxy.
#[derive(Default)]
struct Passed {
    published: u64,
    confirmed: u64,
    unconfirmed_max: u64,
}

/// Counts the methods that go one way, frame by frame.
fn pass(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(&Method<'_>)) {
    let (mut buffer, mut rest) = (vec![0; 65_536], Vec::new());
    let mut has_greeted = false;
    while let Ok(octets @ 1..) = from.read(&mut buffer) {
        rest.extend_from_slice(&buffer[..octets]);
        // The client begins with the protocol header, which is no frame.
        let mut taken = if rest.starts_with(b"AMQP") && !has_greeted { 8 } else { 0 };
        has_greeted = true;
        while let Some((frame, size)) = decode_frame(&rest[taken..], 1 << 20).expect("frames") {
            if frame.kind == FrameKind::Method {
                count(&Method::decode(frame.payload).expect("a method"));
            }
            taken += size;
        }
        rest.drain(..taken);
        if to.write_all(&buffer[..octets]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn watch(client: TcpStream, broker: TcpStream, passed: &Arc<Mutex<Passed>>) {
    let (out, back) = (Arc::clone(passed), Arc::clone(passed));
    let reader = client.try_clone().expect("a socket");
    let writer = broker.try_clone().expect("a socket");
    thread::spawn(move || {
        pass(reader, writer, |method| {
            if matches!(method, Method::BasicPublish(_)) {
                let mut passed = out.lock().expect("nobody panics with it");
                passed.published += 1;
                passed.unconfirmed_max = passed.unconfirmed_max.max(passed.published - passed.confirmed);
            }
        });
    });
    thread::spawn(move || {
        pass(broker, client, |method| {
            if let Method::BasicAck(ack) = method {
                // Before it is passed on, so that what it allows comes after.
                let mut passed = back.lock().expect("nobody panics with it");
                let is_multiple = ack.multiple;
                passed.confirmed = if is_multiple { ack.delivery_tag } else { passed.confirmed + 1 };
            }
        });
    });
}

#[test]
fn no_more_are_unconfirmed_than_allowed() {
    let bench = Bench::new();
    let broker = bench.url().rsplit_once('@').expect("a login").1;
    let broker = broker.split('/').next().expect("host and port").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = bench.url().replace(&broker, &listener.local_addr().expect("it is bound").to_string());
    let passed = Arc::new(Mutex::new(Passed::default()));
    let seen = Arc::clone(&passed);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let broker = TcpStream::connect(&broker).expect("the broker listens");
            watch(client, broker, &seen);
        }
    });
    let run = perf("-y 0 -C 3000 -c 20 -e amq.topic -k nobody.binds.this -o json").args(["--uri", &url]);
    let summary = summary(&run.start().end().expect_code(0));
    assert_eq!(number(&summary, "/confirmed/count"), 3000);
    let passed = passed.lock().expect("nobody panics with it");
    assert_eq!(passed.published, 3000);
    assert!((2..=20).contains(&passed.unconfirmed_max), "{}", passed.unconfirmed_max);
}
