//! Model checks of what crosses from one connection's thread to another's: the inbox, the memory
//! alarm, and the versions that kept routes rest on. Run by `cargo xtask loom`.
//!
//! Loom runs each of them in every order of the threads' steps, and with every value that a load
//! may see, up to a bound of preemptions. Who waits for a wake that never comes is a deadlock,
//! and fails. Invariant: what a check does on the threads is the engine's own code; where that
//! can be broken by planting a bug, a second check sees that it is found.

use std::sync::Arc;

use leveret_wire::{PublishRoute, TableBuf};
use loom::{
    sync::{
        Notify,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    ConnectionId,
    alarm::MemoryAlarm,
    inbox::{Inbox, Letter, Mail, Notice, Wake},
    permissions::Grants,
    queue_cell::{QueueCell, QueueDeclaration},
    routes::RouteCache,
    sources::{SourceId, Sources},
    vhost::Vhost,
};
use crate::{
    Location, Now, OctetCount,
    model::{
        binding::{Binding, Destination},
        exchange::{ExchangeDeclaration, ExchangeKind, ExchangeSettings},
        queue::Position,
        queue_arguments::QueueArguments,
        topology::{ExchangeId, QueueId},
    },
    planted::{self, Bug},
};

/// As the connection's task waits: a wake that comes before the wait is not lost.
#[derive(Clone, Default)]
struct Bell(Arc<Notify>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify();
    }
}

fn queue(name: &str) -> Arc<QueueCell> {
    let declaration = QueueDeclaration {
        durable: false,
        auto_delete: false,
        owner: None,
        arguments: TableBuf::new(),
        parsed: QueueArguments::default(),
    };
    QueueCell::new(1, name, std::sync::Weak::new(), declaration, Now::default(), false)
}

/// Runs the check with the bug in it, which is to fail it.
fn plant(bug: Bug, check: fn()) {
    planted::plant(Some(bug));
    loom::model(check);
}

mod mail {
    use super::*;

    const LETTERS: usize = 2;

    /// The owner of an inbox, and what came from each of two sources.
    struct Owner {
        inbox: Arc<Inbox>,
        bell: Bell,
        sources: [SourceId; 2],
        came: [Vec<usize>; 2],
        windows: [u32; 2],
        notices: Vec<Notice>,
    }

    impl Owner {
        fn new() -> Self {
            let bell = Bell::default();
            let mut known = Sources::default();
            Self {
                inbox: Inbox::new(Box::new(bell.clone())),
                sources: ["one", "other"].map(|name| known.insert(1, queue(name), b"", false)),
                bell,
                came: Default::default(),
                windows: [0; 2],
                notices: Vec::new(),
            }
        }

        /// A thread that steps the source's queue, which is deleted then or not.
        fn producer(&self, source: usize, is_deleted: bool) -> thread::JoinHandle<()> {
            let (inbox, source) = (Arc::clone(&self.inbox), self.sources[source]);
            thread::spawn(move || {
                for number in 0..LETTERS {
                    let location = Location::new(0, number);
                    inbox.put(source, 1, std::iter::once(Letter { location, position: Position::default() }));
                    inbox.wake();
                }
                if is_deleted {
                    inbox.put_notice(Notice::Cancelled(source));
                }
            })
        }

        /// One look into the inbox.
        fn look(&mut self) {
            let mut mail = Mail::default();
            self.inbox.take(&mut mail);
            let mut letters = mail.letters.iter();
            for run in &mail.runs {
                let at = usize::from(run.source == self.sources[1]);
                self.came[at].extend(letters.by_ref().take(run.messages).map(|it| it.location.number()));
                self.windows[at] += run.window;
            }
            assert!(letters.next().is_none(), "every letter is in a run");
            self.notices.extend(mail.notices);
        }

        /// Takes back what the first source sent and the owner did not see yet.
        fn retract(&mut self) {
            let mut retracted = Vec::new();
            self.inbox.retract(|source| source == self.sources[0], &mut retracted);
            self.windows[0] += u32::try_from(retracted.len()).unwrap();
            self.came[0].extend(retracted.iter().map(|(_, letter)| letter.location.number()));
        }

        fn has_all(&self) -> bool {
            self.came.iter().all(|came| came.len() >= LETTERS)
        }

        fn check(&self) {
            for (came, window) in self.came.iter().zip(self.windows) {
                assert_eq!(*came, [0, 1], "each once, in order");
                assert_eq!(window, 2, "each brings its part of the window back");
            }
        }
    }

    fn mail_of_two_producers() {
        let mut owner = Owner::new();
        let producers = [owner.producer(0, false), owner.producer(1, true)];
        while !owner.has_all() || owner.notices.is_empty() {
            owner.look();
            if !owner.has_all() || owner.notices.is_empty() {
                owner.bell.0.wait();
            }
        }
        owner.check();
        assert_eq!(owner.notices, [Notice::Cancelled(owner.sources[1])]);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    }

    fn mail_with_a_source_retracted() {
        let mut owner = Owner::new();
        let producers = [owner.producer(0, false), owner.producer(1, false)];
        loop {
            owner.look();
            owner.retract();
            if owner.has_all() {
                break;
            }
            owner.bell.0.wait();
        }
        owner.check();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    }

    #[test]
    fn nothing_is_lost_doubled_or_out_of_order() {
        loom::model(mail_of_two_producers);
    }

    #[test]
    fn what_is_retracted_comes_once_too() {
        loom::model(mail_with_a_source_retracted);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_lost_wake_up_is_found() {
        plant(Bug::LostWakeUp, mail_of_two_producers);
    }
}

mod memory {
    use super::*;

    /// Whom the alarm stops, and whom not.
    struct Broker {
        octets: OctetCount,
        alarm: MemoryAlarm,
    }

    impl Broker {
        /// Raised above 1000 octets, cleared at 950.
        fn new(octets: u64) -> Arc<Self> {
            let count = OctetCount::default();
            count.grow(octets);
            Arc::new(Self { alarm: MemoryAlarm::new(1000, count.clone()), octets: count })
        }

        fn publish(&self, octets: u64) {
            self.octets.grow(octets);
            self.alarm.grown();
        }

        fn consume(&self, octets: u64) {
            self.octets.shrink(octets);
            self.alarm.shrunk();
        }

        /// What a connection does that published while the alarm stood.
        fn wait(&self, id: u64) {
            let (id, bell) = (ConnectionId(id), Bell::default());
            let inbox = Inbox::new(Box::new(bell.clone()));
            if !self.alarm.is_raised() || !self.alarm.wait(id, &inbox) {
                return;
            }
            loop {
                bell.0.wait();
                if !self.alarm.still_waits(id, &inbox) {
                    return;
                }
            }
        }

        fn check_quiet(&self, octets: u64) {
            assert_eq!(self.alarm.octets(), octets);
            assert!(!self.alarm.is_raised(), "nobody is left who would clear it");
        }
    }

    fn spawn(broker: &Arc<Broker>, work: fn(&Broker)) -> thread::JoinHandle<()> {
        let broker = Arc::clone(broker);
        thread::spawn(move || work(&broker))
    }

    fn one_publishes_while_one_consumes() {
        let broker = Broker::new(900);
        let consumer = spawn(&broker, |broker| broker.consume(900));
        broker.publish(200);
        broker.wait(1);
        consumer.join().unwrap();
        broker.check_quiet(200);
    }

    /// The first publisher may be woken when the second has raised the alarm again.
    fn two_publish_while_one_consumes() {
        let broker = Broker::new(900);
        let consumer = spawn(&broker, |broker| {
            broker.consume(300);
            broker.consume(800);
        });
        let publisher = spawn(&broker, |broker| {
            broker.publish(300);
            broker.wait(2);
        });
        broker.publish(200);
        broker.wait(1);
        consumer.join().unwrap();
        publisher.join().unwrap();
        broker.check_quiet(300);
    }

    /// Neither of those who shrink the count brings it below the clearing level alone.
    fn two_let_go_while_one_publishes() {
        let broker = Broker::new(400);
        broker.alarm.held_changed(0, 400);
        let consumer = spawn(&broker, |broker| broker.consume(200));
        let holder = spawn(&broker, |broker| broker.alarm.held_changed(400, 0));
        broker.publish(700);
        broker.wait(1);
        consumer.join().unwrap();
        holder.join().unwrap();
        broker.check_quiet(900);
        assert!(!broker.alarm.is_held_up());
    }

    #[test]
    fn it_clears_and_wakes_a_publisher() {
        loom::model(one_publishes_while_one_consumes);
    }

    #[test]
    fn it_clears_and_wakes_publishers_when_it_comes_back() {
        loom::model(two_publish_while_one_consumes);
    }

    #[test]
    fn it_clears_whoever_lets_go_last() {
        loom::model(two_let_go_while_one_publishes);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_publisher_that_is_forgotten_is_found() {
        plant(Bug::AlarmForgetsWaiting, two_publish_while_one_consumes);
    }
}

mod routes {
    use super::*;

    /// A virtual host with `front` bound to `back` and that to `q`, all fanout.
    struct World {
        vhost: Vhost,
        queue: Arc<QueueCell>,
        onward: Binding,
        last: Binding,
        /// Whether the client that asked for the change has its answer.
        answered: AtomicBool,
    }

    fn binding(source: ExchangeId, destination: Destination) -> Binding {
        Binding { source, destination, routing_key: b"".as_slice().into(), arguments: TableBuf::new() }
    }

    impl World {
        fn new() -> Arc<Self> {
            let (vhost, queue) = (Vhost::new(crate::definitions::VhostDefinition::new("/")), queue("q"));
            let mut topology = vhost.topology.write();
            let [front, back] = ["front", "back"].map(|name| {
                let kind = ExchangeKind::Fanout;
                let arguments = TableBuf::new();
                topology.add_exchange(
                    name,
                    ExchangeDeclaration {
                        number: 8,
                        kind,
                        durable: false,
                        auto_delete: false,
                        internal: false,
                        arguments,
                        settings: ExchangeSettings::default(),
                    },
                )
            });
            let id = topology.add_queue("q", Arc::clone(&queue));
            queue.place(id);
            let onward = binding(front, Destination::Exchange(back));
            let last = binding(back, Destination::Queue(id));
            topology.bind(onward.clone());
            topology.bind(last.clone());
            drop(topology);
            Arc::new(Self { vhost, queue, onward, last, answered: AtomicBool::new(false) })
        }

        fn delete_queue(&self) {
            let mut topology = self.vhost.topology.write();
            let forget = |id: QueueId| topology.remove_queue(id);
            assert!(self.queue.kill(|_| Ok::<(), ()>(()), forget).unwrap().is_some());
        }
    }

    /// Publishes twice while another thread makes the change, which takes the queue out of the
    /// route: what is published once the change was answered finds no queue.
    fn check(route: &'static [u8], change: fn(&World)) {
        let world = World::new();
        let changed = Arc::clone(&world);
        let changer = thread::spawn(move || {
            change(&changed);
            // The answer goes out to a client, and what that tells another comes back in.
            changed.answered.store(true, Ordering::Release);
        });
        let mut cache = RouteCache::default();
        let mut grants = Grants::of_everything();
        for _ in 0..2 {
            let was_answered = world.answered.load(Ordering::Acquire);
            let publish = PublishRoute::from_octets(route).expect("an exchange and a key");
            let route = cache.route(&world.vhost, &mut grants, publish, None, || 0).unwrap();
            assert!(!was_answered || route.queues.is_empty(), "a route outlived what it rests on");
        }
        changer.join().unwrap();
    }

    fn unbinding() {
        check(b"\x04back\x00", |world| world.vhost.topology.write().unbind(&world.last));
    }

    fn unbinding_on_the_way() {
        check(b"\x05front\x00", |world| world.vhost.topology.write().unbind(&world.onward));
    }

    fn deleting() {
        check(b"\x05front\x00", World::delete_queue);
    }

    fn deleting_by_name() {
        check(b"\x00\x01q", World::delete_queue);
    }

    #[test]
    fn no_publish_after_an_unbind_takes_the_old_route() {
        loom::model(unbinding);
        loom::model(unbinding_on_the_way);
    }

    #[test]
    fn no_publish_after_a_delete_takes_the_old_route() {
        loom::model(deleting);
        loom::model(deleting_by_name);
    }

    #[test]
    #[should_panic(expected = "a route outlived")]
    fn a_stale_route_is_found() {
        plant(Bug::StaleRoute, unbinding);
    }
}
