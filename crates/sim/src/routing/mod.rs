//! Runs about exchanges that delay, share, remember and answer, with a small model of their own.
//!
//! Clients publish and bind while the clock goes on, by milliseconds and by weeks; now and then all comes
//! to rest, all queues are emptied, and what came out is held against the model. Exchanges come and go
//! only then, while messages wait at them. Invariant: the model knows the rules, and nothing of the
//! engine but the order in which it took commands and when its housekeeper had a turn.

mod act;
mod choices;
mod command;
mod events;
mod exchange;
mod heard;
mod message;
mod model;
mod office;

use leveret_broker::engine::Config;

pub use self::events::RoutingEvent;
use self::{
    act::{EXCHANGES, LEAVES, SHARED, declaration, pool},
    command::{ANSWERS, Command, MAIN, PROBES},
    events::RoutingEvent as E,
    exchange::{Binding, Destination},
    message::DELAY_MILLIS_MAX,
    office::{Office, own_queue},
};
use crate::{
    Checked, ensure,
    lab::{Lab, LabFailure, LabReport, LabSettings, Tally, watch},
    random::Random,
    trace::Trace,
};

/// Rounds of a run, each with a rest at its end.
const ROUNDS: usize = 14;
/// Steps between two rests, at most.
const STEPS_MAX: usize = 500;
/// Clients at a time, beside the one that looks after everything.
const CLIENTS_MAX: usize = 4;
const DAY_MILLIS: u64 = 86_400_000;

struct World {
    lab: Lab,
    office: Office,
    keeper: u32,
    clients: usize,
    next_id: u64,
}

/// Queues that the keeper declares, and empties when all is at rest.
fn shared_queues() -> impl Iterator<Item = String> {
    let pools = ["random", "ring", "modulus", "delay"].into_iter().flat_map(pool);
    pools.chain(SHARED.iter().chain(&LEAVES).map(|name| (*name).to_owned()))
}

/// Runs one seed.
///
/// # Errors
/// [`LabFailure`] when a message was not where it had to be, or the broker panicked.
pub fn run_routing(seed: u64, settings: LabSettings) -> Result<LabReport<RoutingEvent>, Box<LabFailure>> {
    let begin = || World::new(Random::new(seed), Trace::new(settings.story));
    watch("--routing", seed, settings, begin, World::live, World::tell)
}

impl World {
    fn new(mut random: Random, trace: Trace) -> Self {
        let clients = 2 + random.below(CLIENTS_MAX - 1);
        let mut lab = Lab::new(Config::default(), random, trace);
        let keeper = lab.connect();
        Self { lab, office: Office::default(), keeper, clients, next_id: 0 }
    }

    const fn tell(&self) -> (&Trace, &Tally<RoutingEvent>) {
        (&self.lab.trace, &self.office.model.counts)
    }

    fn live(&mut self) -> Checked {
        self.begin()?;
        for _ in 0..ROUNDS {
            let steps = 1 + self.lab.random.size(STEPS_MAX);
            for _ in 0..steps {
                self.disturb()?;
                self.somebody_acts();
                self.lab.step(&mut self.office)?;
            }
            self.rest()?;
            self.keep_up()?;
        }
        self.end()
    }

    /// The one that looks after everything makes what is there from the beginning.
    fn begin(&mut self) -> Checked {
        self.lab.rest(&mut self.office)?;
        self.set_up(self.keeper);
        for name in shared_queues() {
            self.say(self.keeper, Command::DeclareQueue { name, exclusive: false });
        }
        for name in LEAVES.iter().chain(&EXCHANGES) {
            self.declare(name);
        }
        for name in LEAVES {
            let destination = Destination::Queue(name.to_owned());
            let binding = Binding { source: name.to_owned(), destination, key: String::new(), number: None };
            self.say(self.keeper, Command::Bind(binding));
        }
        self.rest()?;
        (0..15).for_each(|_| self.bind());
        self.rest()
    }

    fn declare(&mut self, name: &str) {
        let declaration = declaration(name, &mut self.lab.random);
        self.say(self.keeper, Command::DeclareExchange(name.to_owned(), declaration));
    }

    fn bind(&mut self) {
        if let Some(binding) = act::binding(&self.office, self.keeper, &mut self.lab.random) {
            self.say(self.keeper, Command::Bind(binding));
        }
    }

    fn say(&mut self, number: u32, command: Command) {
        if let Some(client) = self.lab.client(number) {
            self.office.say(client, command);
        }
    }

    /// A client that came in has its channels and its queue from then on.
    fn set_up(&mut self, number: u32) {
        let name = own_queue(number);
        for command in [
            Command::Open(MAIN),
            Command::Open(ANSWERS),
            Command::Open(PROBES),
            Command::Confirms,
            Command::DeclareQueue { name: name.clone(), exclusive: true },
            Command::Consume(name),
        ] {
            self.say(number, command);
        }
        self.office.people.entry(number).or_default().is_settled = true;
    }

    fn somebody_acts(&mut self) {
        let numbers: Vec<u32> = self.lab.seats.iter().map(|seat| seat.client.number).collect();
        let number = *self.lab.random.pick(&numbers);
        if number == self.keeper || !self.lab.random.percent(25) {
            return;
        }
        let is_open = self.lab.client(number).is_some_and(|client| client.is_open());
        let person = self.office.people.entry(number).or_default();
        if !is_open || !person.is_settled {
            if is_open {
                self.set_up(number);
            }
            return;
        }
        // Its queue has to be there before anything leads to it.
        if !self.office.model.has_queue(&own_queue(number)) {
            return;
        }
        for command in act::act(&mut self.office, number, &mut self.next_id, &mut self.lab.random) {
            self.say(number, command);
        }
    }

    /// Clients come, go, and stop reading; and the clock goes on.
    fn disturb(&mut self) -> Checked {
        if self.lab.seats.len() <= self.clients {
            self.lab.connect();
        }
        if self.lab.random.percent(6) {
            let millis = self.some_time();
            self.lab.pass(millis);
        }
        let at = self.lab.random.below(self.lab.seats.len());
        let seat = &mut self.lab.seats[at];
        if seat.client.number == self.keeper {
            return Ok(());
        }
        if self.lab.random.percent(2) {
            seat.is_deaf = !seat.is_deaf;
        }
        if self.lab.random.permille(2) {
            let number = seat.client.number;
            self.office.model.counts.note(E::Cut, 1);
            self.lab.cut_off(number, &mut self.office)?;
        }
        Ok(())
    }

    fn some_time(&mut self) -> u64 {
        let random = &mut self.lab.random;
        match random.below(40) {
            0 => random.between(1, 8) * DAY_MILLIS,
            1 => random.between(1, 24) * 3_600_000,
            2..=8 => random.between(100, 3_000),
            _ => *random.pick(&[1, 1, 2, 5, 20]),
        }
    }

    /// Everything arrives, every queue is emptied, and all is compared.
    fn rest(&mut self) -> Checked {
        self.lab.rest(&mut self.office)?;
        for name in shared_queues() {
            if self.office.model.has_queue(&name) {
                self.say(self.keeper, Command::Get(name));
            }
        }
        self.lab.rest(&mut self.office)?;
        self.office.check_rest()?;
        let (octets, chunks) = (self.lab.engine.memory_octets(), self.lab.engine.chunk_count());
        if self.office.model.keeps_nothing() {
            self.office.model.counts.note(E::Emptied, 1);
            ensure!(octets == 0 && chunks == 0, "{octets} octets in {chunks} chunks are kept for no message");
        } else {
            ensure!(octets > 0, "no octet is kept, and messages wait or are remembered");
        }
        Ok(())
    }

    /// While everything is at rest, exchanges go and come, and time passes before others look.
    fn keep_up(&mut self) -> Checked {
        for _ in 0..self.lab.random.below(3) {
            self.change_an_exchange()?;
        }
        if self.lab.random.percent(30) {
            let millis = self.some_time();
            self.lab.pass(millis);
            self.rest()?;
        }
        Ok(())
    }

    /// An exchange that is there goes, rather one where messages wait; one that is not there comes.
    fn change_an_exchange(&mut self) -> Checked {
        let waiting: Vec<String> = self.office.model.waiting_at().map(str::to_owned).collect();
        let mut name = (*self.lab.random.pick(&EXCHANGES)).to_owned();
        if self.lab.random.percent(50) && !waiting.is_empty() {
            name.clone_from(self.lab.random.pick(&waiting));
        }
        if self.office.model.exchanges.contains_key(&name) {
            self.say(self.keeper, Command::DeleteExchange(name.clone()));
            self.rest()?;
            if self.lab.random.percent(30) {
                return Ok(());
            }
        }
        self.declare(&name);
        self.rest()?;
        (0..4).for_each(|_| self.bind());
        self.rest()
    }

    /// What waits becomes due; then all goes, and nothing is left.
    fn end(&mut self) -> Checked {
        self.lab.pass(u64::try_from(DELAY_MILLIS_MAX).expect("it is above zero"));
        self.rest()?;
        for name in EXCHANGES {
            if self.office.model.exchanges.contains_key(name) {
                self.say(self.keeper, Command::DeleteExchange(name.to_owned()));
            }
        }
        self.rest()?;
        let model = &self.office.model;
        ensure!(model.keeps_nothing(), "the model keeps what nobody will see");
        for name in shared_queues() {
            self.say(self.keeper, Command::DeleteQueue(name));
        }
        self.rest()?;
        self.office.end();
        self.lab.stop(&mut self.office)
    }
}
