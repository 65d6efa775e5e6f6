//! Runs about streams: many readers and publishers, retention, and all the ways in which readers begin,
//! stop, and come back.
//!
//! One seed decides everything. Invariant: a run ends with a violation, or with a broker in which nothing
//! is left and a model that agreed with all that it said.

mod act;
mod model;
mod play;

use leveret_broker::engine::Config;

use self::{model::Model, play::Play};
use crate::{
    Checked, ensure,
    lab::{Lab, LabFailure, LabReport, LabSettings, Tally, events, watch},
    random::Random,
    trace::Trace,
};

events! {
    /// Something that happens in a run about streams.
    StreamEvent {
        /// A stream was declared that was not there.
        Declared = "streams declared",
        /// One was deleted.
        Deleted = "streams deleted",
        /// A message was sent.
        Published = "publishes",
        /// It came to a stream; once for each.
        Appended = "appended to a stream",
        /// A publish was confirmed.
        Confirmed = "confirms",
        /// The oldest message went because there were too many octets.
        DroppedForRoom = "dropped for room",
        /// The oldest message went because it was too old.
        DroppedForAge = "dropped for age",
        /// A reader began with the oldest message.
        FromFirst = "readers from the first",
        /// With the newest one.
        FromLast = "readers from the last",
        /// With what comes.
        FromNext = "readers from the next",
        /// With a number that was given.
        FromNumber = "readers from a number",
        /// With a number that is still to come.
        FromFuture = "readers from a number to come",
        /// With the newest so many.
        FromLastCount = "readers from the last so many",
        /// With what came since a time before now.
        FromInterval = "readers from an interval",
        /// With what came since a time.
        FromTimestamp = "readers from a timestamp",
        /// A reader came back to where it, or another before it, had been.
        CameBack = "readers that came back",
        /// A message was given to a reader.
        Delivered = "deliveries",
        /// It was not the next one, because that was gone.
        Overtaken = "deliveries behind what is gone",
        /// A delivery was acknowledged.
        Acknowledged = "acknowledgements",
        /// A reader was cancelled by its client.
        Cancelled = "readers cancelled",
        /// A client was told that its reader's stream is gone.
        CancelNotified = "cancels notified",
        /// A client stopped reading from its socket.
        Deaf = "clients that stopped reading",
        /// A socket was cut.
        Cut = "sockets cut",
        /// A channel was closed by its client.
        ChannelClosed = "channels closed",
        /// A channel was closed for an error.
        ChannelRefused = "channels closed by error",
        /// A connection was closed for an error.
        ConnectionRefused = "connections closed by error",
        /// A reader that wanted to be alone was refused, because it was not.
        ExclusiveRefused = "exclusive readers refused",
        /// Everything was at rest and compared.
        Rest = "quiet moments compared",
        /// In it, a reader had all that there is.
        RestUpToDate = "readers with nothing left to read",
        /// In it, a reader had no credit left.
        RestWithoutCredit = "readers without credit at rest",
    }
}

/// Frames are no larger, whatever a client agreed to.
const FRAME_OCTETS_MAX: u32 = 131_072;
/// The flag of the command.
const KIND: &str = "--streams";
/// Steps of a run, before its end begins.
const STEPS: usize = 4_000;
/// Streams that clients share.
pub(crate) const NAMES: [&str; 3] = ["river", "brook", "creek"];

/// What a run is about.
#[derive(Debug)]
struct Plan {
    clients: usize,
    steps_between_rests: usize,
    cut_permille: u64,
    deaf_percent: u64,
    mistake_permille: u64,
    delete_permille: u64,
    /// Messages that are published at once.
    burst_max: usize,
    body_octets_max: usize,
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        // Where readers have more before them than fits into their window.
        let is_long = random.percent(15);
        Self {
            clients: 2 + random.below(5),
            steps_between_rests: *random.pick(&[100, 300, 1_000]),
            cut_permille: *random.pick(&[0, 2, 10]),
            deaf_percent: *random.pick(&[0, 1, 5]),
            mistake_permille: *random.pick(&[0, 5, 30]),
            delete_permille: *random.pick(&[0, 2, 10]),
            burst_max: if is_long { 2_500 } else { *random.pick(&[1, 8, 40]) },
            body_octets_max: if is_long { 30 } else { *random.pick(&[0, 100, 3_000, 20_000]) },
        }
    }
}

struct World {
    lab: Lab,
    play: Play,
    auditor: u32,
}

/// Runs one seed.
///
/// # Errors
/// [`LabFailure`] when the broker did what it may not do, or panicked.
pub fn run_streams(seed: u64, settings: LabSettings) -> Result<LabReport<StreamEvent>, Box<LabFailure>> {
    watch(KIND, seed, settings, || begin(seed, settings), live, tell)
}

fn tell(world: &World) -> (&Trace, &Tally<StreamEvent>) {
    (&world.lab.trace, &world.play.model.counts)
}

fn begin(seed: u64, settings: LabSettings) -> World {
    let mut random = Random::new(seed);
    let play = Play::new(Plan::new(&mut random), random.fork());
    let mut lab = Lab::new(Config::default(), random, Trace::new(settings.story));
    let auditor = lab.connect();
    World { lab, play, auditor }
}

fn live(world: &mut World) -> Checked {
    world.lab.rest(&mut world.play)?;
    let between = world.play.plan.steps_between_rests;
    for step in 1..=STEPS {
        world.disturb()?;
        world.act();
        world.lab.step(&mut world.play)?;
        if step % between == 0 {
            world.rest()?;
        }
    }
    world.end()
}

impl World {
    /// Now and then time passes, a client comes, stops reading, or is cut.
    fn disturb(&mut self) -> Checked {
        let Self { lab, play, .. } = self;
        if lab.seats.len() <= play.plan.clients && lab.random.percent(20) {
            lab.connect();
        }
        if lab.random.percent(2) {
            let millis = *lab.random.pick(&[1, 20, 300, 1_000, 2_500]);
            lab.pass(millis);
            play.model.look_at_clock(lab.now);
        }
        let at = lab.random.below(lab.seats.len());
        if lab.seats[at].client.number == self.auditor {
            return Ok(());
        }
        if lab.random.percent(play.plan.deaf_percent) {
            let seat = &mut lab.seats[at];
            seat.is_deaf = !seat.is_deaf;
            play.model.counts.note(StreamEvent::Deaf, u64::from(seat.is_deaf));
        }
        if lab.random.permille(play.plan.cut_permille) {
            let number = lab.seats[at].client.number;
            play.model.note(StreamEvent::Cut);
            lab.cut(number, play)?;
        }
        Ok(())
    }

    /// A client does something of its own.
    fn act(&mut self) {
        let Self { lab, play, auditor } = self;
        let at = lab.random.below(lab.seats.len());
        let client = &mut lab.seats[at].client;
        if client.number != *auditor && lab.random.percent(30) {
            play.act(client, lab.now);
        }
    }

    /// Everything comes to rest and is compared.
    fn rest(&mut self) -> Checked {
        let Self { lab, play, auditor } = self;
        if lab.random.percent(30) {
            lab.seats.iter_mut().for_each(|seat| play.acknowledge_all(&mut seat.client));
        }
        lab.rest(play)?;
        play.model.look_at_clock(lab.now);
        play.model.check_rest(lab.engine.queue_count())?;
        if lab.random.percent(50) {
            play.model.set_at_rest(true);
            let names: Vec<String> = play.model.names().map(str::to_owned).collect();
            let client = lab.client(*auditor).expect("the auditor stays");
            names.iter().for_each(|name| play.ask_for(client, name));
            let name_read = play.model.names_read().next().map(str::to_owned);
            if let Some(name) = name_read {
                play.ask_to_be_alone(client, &name);
                play.model.note(StreamEvent::ExclusiveRefused);
            }
            lab.rest(play)?;
            play.model.set_at_rest(false);
            play.model.check_rest(lab.engine.queue_count())?;
        }
        Ok(())
    }

    /// Some clients leave, all streams are deleted, and nothing may be left.
    fn end(&mut self) -> Checked {
        self.rest()?;
        let Self { lab, play, auditor } = self;
        for number in lab.seats.iter().map(|seat| seat.client.number).collect::<Vec<_>>() {
            match lab.random.below(3) {
                _ if number == *auditor => {}
                0 => lab.cut(number, play)?,
                1 => lab.client(number).into_iter().for_each(crate::lab::Client::close),
                _ => {}
            }
        }
        lab.rest(play)?;
        let names: Vec<String> = play.model.names().map(str::to_owned).collect();
        let client = lab.client(*auditor).expect("the auditor stays");
        names.iter().for_each(|name| play.delete(client, name));
        lab.rest(play)?;
        play.model.check_rest(lab.engine.queue_count())?;
        lab.seats.iter_mut().for_each(|seat| play.acknowledge_all(&mut seat.client));
        for number in lab.seats.iter().map(|seat| seat.client.number).collect::<Vec<_>>() {
            if play.has_given_up(number) {
                lab.cut(number, play)?;
            }
        }
        lab.rest(play)?;
        let chunks = lab.engine.chunk_count();
        ensure!(chunks == 0, "{chunks} chunks of messages that nobody needs");
        lab.stop(play)
    }
}
