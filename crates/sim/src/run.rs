//! A run from its seed to its end: it gets lively, comes to rest now and then, and is cleared up.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use leveret_broker::engine::{Config, Engine};
#[cfg(feature = "planted-bugs")]
use leveret_broker::planted::Bug;

use crate::{
    Checked, Counts, Violation,
    client::Role,
    ensure,
    model::{BrokerLimits, Model},
    plan::Plan,
    random::{Random, SeededEntropy},
    trace::Trace,
    world::World,
};

/// The largest body that the broker is set up to take.
pub const MESSAGE_OCTETS_MAX: usize = 64 * 1024;
/// Channels that a connection may have.
const CHANNEL_MAX: u16 = 200;
/// Steps that are taken while the broker stops, before time passes.
const STEPS_AFTER_STOP: usize = 500;
/// How long the last connection may take to end when the broker stops.
const END_SECONDS_MAX: usize = 4;

/// How to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Steps before the end begins.
    pub steps: usize,
    /// Clients at a time; drawn from the seed if not given.
    pub clients: Option<usize>,
    /// A mistake in the engine that the run is to find.
    #[cfg(feature = "planted-bugs")]
    pub bug: Option<Bug>,
    /// Whether everything that happens is written to standard error.
    pub story: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 5_000,
            clients: None,
            #[cfg(feature = "planted-bugs")]
            bug: None,
            story: false,
        }
    }
}

/// A run without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What happened, as a number: the same for the same seed.
    pub hash: u64,
    /// How often each thing happened.
    pub counts: Counts,
}

/// A run that found one.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// How the run was set up.
    pub settings: Settings,
    /// What the broker did.
    pub text: String,
    /// The last steps before that.
    pub trace: String,
}

impl Failure {
    /// The command that shows it again.
    #[must_use]
    pub fn replay_command(&self) -> String {
        let (default, settings) = (Settings::default(), self.settings);
        #[cfg_attr(not(feature = "planted-bugs"), expect(unused_mut, reason = "bugs are a feature"))]
        let mut build = String::new();
        let mut arguments = format!("--seed {}", self.seed);
        if settings.steps != default.steps {
            arguments += &format!(" --steps {}", settings.steps);
        }
        if let Some(clients) = settings.clients {
            arguments += &format!(" --clients {clients}");
        }
        #[cfg(feature = "planted-bugs")]
        if let Some(bug) = settings.bug {
            build += " --features planted-bugs";
            arguments += &format!(" --bug {}", bug.name());
        }
        format!("cargo run -p leveret-sim{build} -- {arguments}")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the last steps, each with its connection:\n{}", self.trace)?;
        writeln!(f, "seed {}: {}", self.seed, self.text)?;
        write!(f, "replay: {}", self.replay_command())
    }
}

/// Runs one seed.
///
/// # Errors
/// [`Failure`] when the broker did what it may not do, or panicked.
pub fn run(seed: u64, settings: Settings) -> Result<Report, Box<Failure>> {
    let mut world = begin(seed, settings);
    let outcome = catch_unwind(AssertUnwindSafe(|| live(&mut world, settings)));
    let text = match outcome {
        Ok(Ok(())) => {
            return Ok(Report { hash: world.trace.hash(), counts: world.model.counts().clone() });
        }
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => panic_text(&*panic),
    };
    let trace = world.trace.tail();
    // An engine that panicked may not be taken apart any more.
    std::mem::forget(world);
    Err(Box::new(Failure { seed, settings, text, trace }))
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of an unknown kind"))
}

fn begin(seed: u64, settings: Settings) -> World {
    #[cfg(feature = "planted-bugs")]
    leveret_broker::planted::plant(settings.bug);
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random, settings.clients);
    let config = Config {
        channel_max: CHANNEL_MAX,
        message_octets_max: MESSAGE_OCTETS_MAX as u64,
        memory_watermark_octets: plan.memory_watermark_octets,
        ..Config::default()
    };
    let model = Model::new(BrokerLimits {
        message_octets_max: config.message_octets_max,
        channel_max: config.channel_max,
        memory_watermark_octets: config.memory_watermark_octets,
    });
    let engine = Engine::new(config, Box::new(SeededEntropy(random.fork())));
    World::new(engine, plan, random, model, Trace::new(settings.story))
}

fn live(world: &mut World, settings: Settings) -> Checked {
    world.start_auditor()?;
    // Where thousands of messages are sent at once, fewer steps do.
    let steps = if world.plan.floods { settings.steps / 4 } else { settings.steps };
    for step in 1..=steps {
        if world.links.len() <= world.plan.clients {
            let role = role(world);
            world.connect(role);
        }
        disturb(world)?;
        world.step(World::AUDITOR)?;
        if step % world.plan.steps_between_rests == 0 {
            world.settle()?;
            world.count_queues()?;
        }
    }
    end(world)
}

fn role(world: &mut World) -> Role {
    match world.random.below(3) {
        0 if world.plan.floods => Role::Hoarder,
        1 if world.plan.floods => Role::Flooder,
        2 if world.plan.has_publishers => Role::Publisher,
        _ => Role::Ordinary,
    }
}

/// Now and then time passes, a client stops reading or falls silent, or a socket is cut.
fn disturb(world: &mut World) -> Checked {
    if world.random.percent(3) {
        let millis = *world.random.pick(&[1, 5, 20, 100, 450, 450]);
        world.pass(millis);
    }
    let at = world.random.below(world.links.len());
    if world.links[at].key.0 == World::AUDITOR {
        return Ok(());
    }
    let World { links, random, plan, .. } = &mut *world;
    let link = &mut links[at];
    if link.client.goes_deaf && random.percent(2) {
        link.client.is_deaf = !link.client.is_deaf;
    }
    if link.client.beats() && random.permille(plan.loss_permille) {
        link.lose(random);
    }
    if !random.permille(plan.cut_permille) {
        return Ok(());
    }
    if random.percent(50) {
        return world.cut(at);
    }
    links[at].die_sending(random);
    Ok(())
}

/// Everything ends in one way or another, and nothing may be left.
fn end(world: &mut World) -> Checked {
    if world.plan.ends_abruptly {
        return stop_abruptly(world);
    }
    world.settle()?;
    world.count_queues()?;
    leave(world)?;
    world.settle()?;
    world.clear_up()?;
    world.settle()?;
    world.stop();
    wait_for_end(world)?;
    check_nothing_is_left(world)
}

/// Some clients are cut, some close, some stay.
fn leave(world: &mut World) -> Checked {
    let mut leaving: Vec<u32> = world.links.iter().map(|link| link.key.0).collect();
    leaving.retain(|number| *number != World::AUDITOR);
    for number in leaving {
        let Some(at) = world.place_of(number) else { continue };
        match world.random.below(3) {
            0 => world.cut(at)?,
            1 => {
                world.links[at].client.close();
                world.links[at].post();
            }
            _ => {}
        }
    }
    Ok(())
}

/// The broker stops while everything is under way; some clients do not read what it says.
fn stop_abruptly(world: &mut World) -> Checked {
    world.stop();
    for _ in 0..STEPS_AFTER_STOP {
        if world.links.is_empty() {
            return Ok(());
        }
        world.step(World::AUDITOR)?;
    }
    wait_for_end(world)
}

/// However a client behaves, its connection ends soon after the broker was told to stop.
fn wait_for_end(world: &mut World) -> Checked {
    for _ in 0..END_SECONDS_MAX {
        world.rest()?;
        world.pass(1_000);
    }
    world.rest()?;
    ensure!(world.links.is_empty(), "{} connections outlive a stop", world.links.len());
    left(world.engine.connection_count() as u64, "connections")
}

fn check_nothing_is_left(world: &World) -> Checked {
    let engine = &world.engine;
    left(engine.queue_count() as u64, "queues")?;
    left(engine.chunk_count() as u64, "chunks")?;
    left(engine.memory_octets(), "octets of messages")
}

fn left(count: u64, what: &str) -> Checked {
    if count == 0 { Ok(()) } else { Err(Violation::new(format!("{count} {what} are left"))) }
}
