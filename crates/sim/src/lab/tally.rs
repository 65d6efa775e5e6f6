//! How often each thing happened, for events that a run names itself.

use std::{fmt, marker::PhantomData};

/// Things that happen in runs of one kind.
pub trait Event: Copy + 'static {
    /// Every one of them, in the order of a report.
    const ALL: &'static [Self];

    /// What it is called in a report.
    fn text(self) -> &'static str;

    /// Its place in [`Event::ALL`].
    fn place(self) -> usize;
}

/// An enum of events with their texts.
macro_rules! events {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $event:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $event),* }

        impl $crate::lab::Event for $name {
            const ALL: &'static [Self] = &[$(Self::$event),*];

            fn text(self) -> &'static str {
                match self { $(Self::$event => $text),* }
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use events;

/// How often each event happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally<E>(Vec<u64>, PhantomData<E>);

impl<E: Event> Default for Tally<E> {
    fn default() -> Self {
        Self(vec![0; E::ALL.len()], PhantomData)
    }
}

impl<E: Event> Tally<E> {
    /// It happened so many times more.
    pub fn note(&mut self, event: E, times: u64) {
        self.0[event.place()] += times;
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, event: E) -> u64 {
        self.0[event.place()]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, more)| *sum += more);
    }

    /// Events that never happened.
    pub fn missing(&self) -> impl Iterator<Item = E> {
        E::ALL.iter().copied().filter(|event| self.of(*event) == 0)
    }
}

impl<E: Event> fmt::Display for Tally<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in E::ALL {
            writeln!(f, "{:>10}  {}", self.of(*event), event.text())?;
        }
        Ok(())
    }
}
