//! What `docs/compatibility.md` says and no other file of these tests shows: what is not there, what
//! is taken and changes nothing on one node, and edges of quorum queues and streams.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use futures_lite::future::block_on;
use leveret::Definitions;
use leveret_wire::{
    Method, Properties, TableBuf, Value,
    method::{basic, queue},
};

use crate::support::{
    Client, Login, Message, Peer, ack, bind, cancel, consume, consume_no_ack, declare, declare_exchange,
    declare_with, exclusive, get, get_no_ack, message, nack, passive, passive_exchange, qos, table,
};

const fn text(text: &str) -> Value<'_> {
    Value::LongStr(text.as_bytes())
}

fn of_type<'a>(queue_type: &'a str, more: &[(&'a str, Value<'a>)]) -> TableBuf {
    let mut arguments = table(&[("x-queue-type", text(queue_type))]);
    more.iter().for_each(|(name, value)| arguments.push(name, *value));
    arguments
}

fn durable<'a>(queue: &'a str, arguments: &'a TableBuf) -> queue::Declare<'a> {
    queue::Declare { durable: true, ..declare_with(queue, arguments) }
}

fn delivery_count(properties: &Properties<'_>) -> Option<i64> {
    match properties.headers.and_then(|headers| headers.find("x-delivery-count")) {
        None => None,
        Some(Value::I64(count)) => Some(count),
        Some(other) => panic!("a count is a long: {other:?}"),
    }
}

#[test]
fn a_restart_loses_even_what_is_durable() {
    let Some(peer) = Peer::leveret("RabbitMQ keeps it", |builder| builder) else { return };
    let mut client = peer.client();
    client.ask(durable("q", &TableBuf::new()), "declare-ok q 0 0");
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    client.put(Message { properties, ..message("", "q", "m") });
    client.ask(passive("q"), "declare-ok q 1 0");
    client.close();
    block_on(peer.into_broker().shutdown());
    let peer = Peer::leveret("RabbitMQ keeps it", |builder| builder).expect("it was no other one before");
    let mut client = peer.client();
    client.refused(passive("q"), "404 (50/10) NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn protocols_that_are_not_spoken_are_told_which_one_is() {
    let peer = Peer::start();
    let header = "protocol header [65, 77, 81, 80, 0, 0, 9, 1]";
    let amqp_1 = b"AMQP\x00\x01\x00\x00";
    let stomp = b"CONNECT\naccept-version:1.2\nhost:/\n\n\0";
    let mqtt = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test";
    let websocket = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00";
    for octets in [&amqp_1[..], stomp, mqtt, websocket, tls] {
        let mut client = peer.socket();
        client.send_octets(octets);
        assert_eq!(client.next().to_string(), header, "{octets:?}");
    }
}

#[test]
fn the_broker_gives_its_own_name_and_version() {
    let Some(peer) = Peer::leveret("RabbitMQ gives its own", |builder| builder) else { return };
    let mut client = peer.socket();
    client.send_octets(b"AMQP\x00\x00\x09\x01");
    let start = client.expect("ConnectionStart");
    let Method::ConnectionStart(start) = start.method() else { unreachable!("it was compared") };
    assert_eq!(start.server_properties.find("product"), Some(text("Leveret")));
    assert_eq!(start.server_properties.find("version"), Some(text(env!("CARGO_PKG_VERSION"))));
}

#[test]
fn exchange_types_of_other_plugins_are_unknown() {
    let peer = Peer::start();
    for kind in ["x-jms-topic", "x-lvc", "x-rtopic", "x-message-deduplication", "x-federation-upstream"] {
        let mut client = peer.client();
        client.send(declare_exchange("x", kind));
        let wanted = format!("503 (40/10) COMMAND_INVALID - unknown exchange type '{kind}'");
        client.expect_connection_close(&wanted);
    }
}

#[test]
fn there_are_no_exchanges_of_logs_and_events() {
    let peer = Peer::start();
    let mut client = peer.client();
    for exchange in ["amq.rabbitmq.log", "amq.rabbitmq.event"] {
        let wanted = format!("404 (40/10) NOT_FOUND - no exchange '{exchange}' in vhost '/'");
        client.refused(passive_exchange(exchange), &wanted);
    }
}

#[test]
fn shovels_and_federation_are_left_out_of_definitions() {
    let json = r#"{"vhosts": [{"name": "/"}], "parameters": [
        {"component": "shovel", "name": "s", "vhost": "/", "value": {"src-uri": "amqp://"}},
        {"component": "federation-upstream", "name": "f", "vhost": "/", "value": {"uri": "amqp://"}}]}"#;
    let set_up = |builder: leveret::BrokerBuilder| {
        let definitions = Definitions::from_json(json).expect("they are no error");
        builder.definitions(definitions).user("guest", "guest")
    };
    let Some(peer) = Peer::leveret("definitions are an operator's", set_up) else { return };
    let export = peer.broker().definitions().to_json();
    assert!(!export.contains("shovel") && !export.contains("federation"), "{export}");
}

#[test]
fn answers_need_no_permission() {
    let Some(peer) = Peer::defined() else { return };
    let login = Login { response: b"\0alice\0secret".to_vec(), ..Login::default() };
    let mut client = peer.client_with(&login);
    client.ask(consume_no_ack("amq.rabbitmq.reply-to", "r"), "consume-ok r");
    let refused =
        "403 (60/20) ACCESS_REFUSED - access to queue 'other' in vhost '/' refused for user 'alice'";
    client.refused(consume("other", "o"), refused);
}

#[test]
fn arguments_about_replicas_are_checked_and_change_nothing() {
    let peer = Peer::start();
    let mut client = peer.client();
    let one = Value::I32(1);
    let quorum = of_type(
        "quorum",
        &[
            ("x-quorum-initial-group-size", one),
            ("x-queue-leader-locator", text("balanced")),
            ("x-dead-letter-strategy", text("at-most-once")),
            ("x-max-in-memory-length", one),
            ("x-max-in-memory-bytes", one),
        ],
    );
    client.ask(durable("q", &quorum), "declare-ok q 0 0");
    for n in 1..=3 {
        client.put(message("", "q", &n.to_string()));
    }
    assert_eq!(client.get_all("q"), ["1", "2", "3"]);
    let stream = of_type(
        "stream",
        &[
            ("x-initial-cluster-size", one),
            ("x-queue-leader-locator", text("client-local")),
            ("x-stream-max-segment-size-bytes", Value::I32(1_000_000)),
        ],
    );
    client.ask(durable("s", &stream), "declare-ok s 0 0");
    let mut check = |queue_type: &str, name: &str, value, reason: &str| {
        let wanted = format!(
            "406 (50/10) PRECONDITION_FAILED - invalid arg '{name}' for queue 'w' in vhost '/': {reason}"
        );
        client.refused(durable("w", &of_type(queue_type, &[(name, value)])), &wanted);
    };
    check("quorum", "x-quorum-initial-group-size", Value::I32(0), "{value_zero,0}");
    check("quorum", "x-max-in-memory-length", Value::I32(-1), "{value_negative,-1}");
    check("quorum", "x-queue-leader-locator", text("here"), "invalid_queue_locator_arg");
    check("quorum", "x-dead-letter-strategy", text("sometimes"), "invalid_dlx_strategy");
    check("stream", "x-initial-cluster-size", Value::I32(0), "{value_zero,0}");
}

#[test]
fn a_quorum_queue_counts_from_its_first_get() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(durable("q", &of_type("quorum", &[])), "declare-ok q 0 0");
    client.put(message("", "q", "m"));
    let got = client.ask(get("q"), "get-ok 1 /q m left 0");
    assert_eq!(delivery_count(&got.properties()), Some(0));
    client.send(nack(1, false, true));
    client.ask(consume("q", "c"), "consume-ok c");
    let delivered = client.expect("deliver c 2 /q m redelivered");
    assert_eq!(delivery_count(&delivered.properties()), Some(1));
}

/// The queue `dead` with a consumer, and the quorum queue `q`, whose dead letters go there.
fn with_quorum_queue(peer: &Peer, limit: Option<Value<'_>>) -> Client {
    let mut client = peer.client();
    let to_dead = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    let mut arguments = of_type("quorum", &to_dead);
    if let Some(limit) = limit {
        arguments.push("x-delivery-limit", limit);
    }
    client.ask(declare("dead"), "declare-ok dead 0 0");
    client.ask(durable("q", &arguments), "declare-ok q 0 0");
    client.ask(consume_no_ack("dead", "d"), "consume-ok d");
    client.ask(consume("q", "c"), "consume-ok c");
    client.publish(message("", "q", "m"));
    client.expect("deliver c 1 /q m");
    client
}

#[test]
fn a_message_may_come_back_twenty_times_unless_it_is_told() {
    let Some(peer) = Peer::leveret("RabbitMQ has that limit from 4 on", |builder| builder) else { return };
    let mut client = with_quorum_queue(&peer, None);
    for tag in 1..=20 {
        client.send(nack(tag, false, true));
        client.expect(&format!("deliver c {} /q m redelivered", tag + 1));
    }
    client.send(nack(21, false, true));
    client.expect("deliver d 22 /dead m");
}

#[test]
fn a_negative_delivery_limit_is_none() {
    let Some(peer) = Peer::leveret("that it is none is so in RabbitMQ from 4 on", |builder| builder) else {
        return;
    };
    let mut client = with_quorum_queue(&peer, Some(Value::I32(-1)));
    for tag in 1..=50 {
        client.send(nack(tag, false, true));
        client.expect(&format!("deliver c {} /q m redelivered", tag + 1));
    }
}

#[test]
fn a_quorum_queue_has_no_priorities() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.refused(
        durable("q", &of_type("quorum", &[("x-max-priority", Value::I32(5))])),
        "406 (50/10) PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type \
         rabbit_quorum_queue",
    );
}

#[test]
fn nobody_gets_from_a_quorum_queue_that_has_one_active_consumer() {
    let peer = Peer::start();
    let mut client = peer.client();
    let single = [("x-single-active-consumer", Value::Bool(true))];
    client.ask(durable("q", &of_type("quorum", &single)), "declare-ok q 0 0");
    client.refused(
        get("q"),
        "405 (60/70) RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are \
         not supported by quorum queues with single active consumer",
    );
    client.ask(declare_with("classic", &table(&single)), "declare-ok classic 0 0");
    client.ask(get("classic"), "BasicGetEmpty");
}

#[test]
fn a_higher_priority_does_not_take_over_from_the_active_consumer() {
    let peer = Peer::start();
    let mut client = peer.client();
    let single = table(&[("x-single-active-consumer", Value::Bool(true))]);
    client.ask(declare_with("q", &single), "declare-ok q 0 0");
    client.ask(consume_no_ack("q", "first"), "consume-ok first");
    let priority = table(&[("x-priority", Value::I32(10))]);
    let high = basic::Consume { arguments: priority.as_table(), ..consume_no_ack("q", "high") };
    client.ask(high, "consume-ok high");
    for n in 1..=3 {
        client.publish(message("", "q", &n.to_string()));
        client.expect(&format!("deliver first {n} /q {n}"));
    }
}

#[test]
fn arguments_of_consumers_are_for_their_type_of_queue() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(durable("s", &of_type("stream", &[])), "declare-ok s 0 0");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(qos(1), "BasicQosOk");
    let mut check = |queue: &str, name: &str, value, module: &str| {
        let arguments = table(&[(name, value)]);
        let wanted = format!(
            "406 (60/20) PRECONDITION_FAILED - invalid arg '{name}' for queue '{queue}' in vhost '/' of queue type \
             {module}"
        );
        client.refused(basic::Consume { arguments: arguments.as_table(), ..consume(queue, "c") }, &wanted);
        client.ask(qos(1), "BasicQosOk");
    };
    check("s", "x-priority", Value::I32(1), "rabbit_stream_queue");
    check("q", "x-stream-offset", text("first"), "rabbit_classic_queue");
    check("s", "x-cancel-on-ha-failover", Value::Bool(true), "rabbit_stream_queue");
    let mut check = |arguments: &[(&str, Value<'_>)], wanted: &str| {
        let wanted = format!("406 (60/20) PRECONDITION_FAILED - invalid arg {wanted}");
        let arguments = table(arguments);
        client.refused(basic::Consume { arguments: arguments.as_table(), ..consume("q", "c") }, &wanted);
    };
    let failover = "x-cancel-on-ha-failover";
    check(
        &[(failover, text("x"))],
        "'x-cancel-on-ha-failover' for queue 'q' in vhost '/': {unacceptable_type,longstr}",
    );
    // What is wrong comes before what another type of queue has.
    check(
        &[("x-stream-offset", text("first")), (failover, Value::I32(1)), ("x-priority", text("x"))],
        "'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\"",
    );
    check(
        &[("x-stream-offset", text("first")), (failover, Value::I32(1))],
        "'x-cancel-on-ha-failover' for queue 'q' in vhost '/': {unacceptable_type,signedint}",
    );
    let arguments = table(&[(failover, Value::Bool(true))]);
    client.ask(basic::Consume { arguments: arguments.as_table(), ..consume("q", "c") }, "consume-ok c");
}

#[test]
fn a_broker_whose_stderr_is_gone_goes_on() {
    if Peer::leveret("it starts a broker of its own", |builder| builder).is_none() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "debug"]);
    let mut served = Served::start(&mut command);
    served.stderr = None;
    for _ in 0..2 {
        let mut client = served.connect();
        client.log_in(&Login::default());
        client.open(1);
        client.refused(passive("nowhere"), "404 (50/10) NOT_FOUND - no queue 'nowhere' in vhost '/'");
        client.close();
    }
    assert!(served.child.try_wait().expect("it is a child").is_none(), "it is still there");
}

#[test]
fn no_local_holds_nothing_back() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(basic::Consume { no_local: true, ..consume_no_ack("q", "c") }, "consume-ok c");
    client.publish(message("", "q", "my own"));
    client.expect("deliver c 1 /q my own");
}

/// `leveret serve`, which goes with the test.
struct Served {
    child: Child,
    address: SocketAddr,
    /// What it says goes there as long as it runs.
    stderr: Option<BufReader<ChildStderr>>,
}

impl Served {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary was built");
        let mut stderr = BufReader::new(child.stderr.take().expect("it was piped"));
        let mut lines = stderr.by_ref().lines().map_while(Result::ok);
        let announced = lines.find_map(|line| Some(line.split_once(" listens on ")?.1.to_owned()));
        let address = announced.expect("it says where it listens").parse().expect("an address");
        Self { child, address, stderr: Some(stderr) }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address, Arc::default())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_command_takes_rabbitmqs_variables_and_switches_the_firehose_on() {
    if Peer::leveret("it starts a broker of its own", |builder| builder).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--trace", "shop", "--log", "info"]);
    command.arg("--data").arg(folder.path());
    command.env("RABBITMQ_DEFAULT_USER", "app").env("RABBITMQ_DEFAULT_PASS", "secret");
    command.env("RABBITMQ_DEFAULT_VHOST", "shop");
    let served = Served::start(&mut command);
    let mut guest = served.connect();
    guest.greet(&Login::default());
    guest.expect_connection_close(
        "403 (0/0) ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
         broker logfile.",
    );
    let mut client = served.connect();
    let app = Login { response: b"\0app\0secret".to_vec(), virtual_host: "shop", ..Login::default() };
    client.log_in(&app);
    client.open(1);
    client.ask(exclusive("t"), "declare-ok t 0 0");
    client.ask(bind("t", "amq.rabbitmq.trace", "publish.#"), "QueueBindOk");
    client.put(message("", "nowhere", "m"));
    client.ask(get_no_ack("t"), "get-ok 1 amq.rabbitmq.trace/publish. m left 0");
    client.close();
}

/// A quorum queue `q` of so many messages, numbered from 1.
fn with_messages(client: &mut Client, arguments: &[(&str, Value<'_>)], count: u64) {
    client.ask(durable("q", &of_type("quorum", arguments)), "declare-ok q 0 0");
    for n in 1..=count {
        client.put(message("", "q", &n.to_string()));
    }
}

/// What a passive declare comes to say: RabbitMQ's quorum queues count what their log has come to.
fn counts_become(client: &mut Client, wanted: &str) {
    let begun = Instant::now();
    loop {
        client.send(passive("q"));
        let said = client.next().to_string();
        if said == wanted || begun.elapsed() > Duration::from_secs(5) {
            return assert_eq!(said, wanted);
        }
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn who_holds_a_message_of_a_quorum_queue_counts_as_a_consumer() {
    let peer = Peer::start();
    let mut client = peer.client();
    with_messages(&mut client, &[], 4);
    client.ask(get("q"), "get-ok 1 /q 1 left 3");
    client.ask(get("q"), "get-ok 2 /q 2 left 2");
    counts_become(&mut client, "declare-ok q 2 2");
    client.send(ack(1));
    client.ask(consume("q", "c"), "consume-ok c");
    client.expect_all(&["deliver c 3 /q 3", "deliver c 4 /q 4"]);
    counts_become(&mut client, "declare-ok q 0 2");
    // One that is cancelled counts until it holds nothing any more.
    client.ask(cancel("c"), "cancel-ok c");
    client.send(ack(3));
    counts_become(&mut client, "declare-ok q 0 2");
    client.send(ack(4));
    counts_become(&mut client, "declare-ok q 0 1");
    client.ask(get_no_ack("q"), "BasicGetEmpty");
    client.send(nack(2, false, true));
    counts_become(&mut client, "declare-ok q 1 0");
}

#[test]
fn a_consumer_of_a_quorum_queue_that_waits_to_be_the_active_one_does_not_count() {
    let peer = Peer::start();
    let mut client = peer.client();
    with_messages(&mut client, &[("x-single-active-consumer", Value::Bool(true))], 1);
    client.ask(consume("q", "c"), "consume-ok c");
    client.expect("deliver c 1 /q 1");
    client.ask(consume("q", "d"), "consume-ok d");
    counts_become(&mut client, "declare-ok q 0 1");
    client.ask(cancel("c"), "cancel-ok c");
    counts_become(&mut client, "declare-ok q 0 2");
    client.send(ack(1));
    counts_become(&mut client, "declare-ok q 0 1");
}

#[test]
fn what_a_consumer_returns_to_a_quorum_queue_without_a_limit_goes_last() {
    let peer = Peer::start();
    let mut client = peer.client();
    with_messages(&mut client, &[], 4);
    client.ask(get("q"), "get-ok 1 /q 1 left 3");
    client.ask(get("q"), "get-ok 2 /q 2 left 2");
    client.send(nack(1, false, true));
    client.put(message("", "q", "5"));
    // What goes back because its channel is gone goes first all the same.
    client.ask(leveret_wire::method::channel::Close::default(), "ChannelCloseOk");
    client.open(1);
    assert_eq!(client.get_all("q"), ["2", "3", "4", "1", "5"]);
}

#[test]
fn what_comes_back_to_a_quorum_queue_with_a_limit_stands_in_the_order_in_which_it_came_back() {
    let peer = Peer::start();
    let mut client = peer.client();
    with_messages(&mut client, &[("x-delivery-limit", Value::I32(5))], 4);
    for n in 1..=3 {
        client.ask(get("q"), &format!("get-ok {n} /q {n} left {}", 4 - n));
    }
    for tag in [3, 1, 2] {
        client.send(nack(tag, false, true));
    }
    assert_eq!(client.get_all("q"), ["3", "1", "2", "4"]);
}
