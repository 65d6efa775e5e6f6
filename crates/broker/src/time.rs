//! The time as the driver tells it.

/// One reading of the driver's clocks. Everything that depends on time is given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since some fixed moment; never goes back.
    pub monotonic_millis: u64,
    /// Milliseconds since 1970 as the wall clock has it.
    pub wall_millis: u64,
}
