//! What a run in the laboratory comes to: a report, or a fault with the command that shows it again.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

#[cfg(feature = "planted-bugs")]
use leveret_broker::planted::Bug;

use super::{Event, Tally};
use crate::{Checked, run::panic_text, trace::Trace};

/// How to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LabSettings {
    /// A mistake in the engine that the run is to find.
    #[cfg(feature = "planted-bugs")]
    pub bug: Option<Bug>,
    /// Whether everything that happens is written to standard error.
    pub story: bool,
}

/// A run without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabReport<E: Event> {
    /// What happened, as a number: the same for the same seed.
    pub hash: u64,
    /// How often each thing happened.
    pub counts: Tally<E>,
}

/// A run that found one.
#[derive(Debug, Clone)]
pub struct LabFailure {
    /// The seed that shows it.
    pub seed: u64,
    /// What the broker did.
    pub text: String,
    /// The last steps.
    pub trace: String,
    /// The flag of the command that asks for such runs.
    kind: &'static str,
    settings: LabSettings,
}

impl fmt::Display for LabFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, text, trace, kind, settings } = self;
        #[cfg(feature = "planted-bugs")]
        let (build, bug) = settings.bug.map_or_else(Default::default, |bug| {
            (" --features planted-bugs", format!(" --bug {}", bug.name()))
        });
        #[cfg(not(feature = "planted-bugs"))]
        let (build, bug) = ("", {
            let _ = settings;
            ""
        });
        writeln!(f, "the last steps, each with its connection:\n{trace}")?;
        writeln!(f, "seed {seed}: {text}")?;
        write!(f, "replay: cargo run -p leveret-sim{build} -- {kind} --seed {seed}{bug}")
    }
}

/// Plants the bug that the settings ask for and runs a world, which tells its trace and its counts.
///
/// # Errors
/// [`LabFailure`] when `live` found something, or the broker panicked.
pub(crate) fn watch<W, E: Event>(
    kind: &'static str,
    seed: u64,
    settings: LabSettings,
    begin: impl FnOnce() -> W,
    live: impl FnOnce(&mut W) -> Checked,
    tell: impl Fn(&W) -> (&Trace, &Tally<E>),
) -> Result<LabReport<E>, Box<LabFailure>> {
    #[cfg(feature = "planted-bugs")]
    leveret_broker::planted::plant(settings.bug);
    let mut world = begin();
    let outcome = catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    let (trace, counts) = tell(&world);
    let text = match outcome {
        Ok(Ok(())) => return Ok(LabReport { hash: trace.hash(), counts: counts.clone() }),
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => panic_text(&*panic),
    };
    let trace = trace.tail();
    // An engine that panicked may not be taken apart any more.
    std::mem::forget(world);
    Err(Box::new(LabFailure { seed, text, trace, kind, settings }))
}
