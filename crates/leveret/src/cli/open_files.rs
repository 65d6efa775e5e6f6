//! How many files the process may have open: each connection is one.
//!
//! Invariant: the limit is never lowered.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit, which is often far below what is allowed; the limit now, if there is one.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let is_raised = limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok();
    if is_raised { raised.current } else { limit.current }
}
