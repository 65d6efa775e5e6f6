//! The broker inside this process, for a machine that has none: whoever finds nobody at the embedded
//! address hosts it there, and when the host goes one of those that are left does.
//!
//! Invariant: at most one process hosts at an address, since only one can listen there.

use std::{net::SocketAddr, process, rc::Rc, time::Duration};

use leveret::{Broker, StartError};

use super::{Failure, status::Status};

/// How often is looked whether the receivers have taken everything. The broker has no event for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) struct Host {
    address: SocketAddr,
    broker: Option<Broker>,
    status: Rc<Status>,
}

impl Host {
    pub(crate) fn at(address: SocketAddr, status: Rc<Status>) -> Self {
        Self { address, broker: None, status }
    }

    /// Hosts the broker from now on, unless another process was faster; then that one is there to
    /// connect to.
    pub(crate) async fn take_over(&mut self) -> Result<(), Failure> {
        if self.broker.is_some() {
            return Ok(());
        }
        match Broker::builder().listen(self.address).start().await {
            Ok(broker) => {
                self.status.say(format!(
                    " [*] No broker at {}: this process ({}) hosts one there, in memory, until it ends",
                    self.address,
                    process::id()
                ));
                self.broker = Some(broker);
                Ok(())
            }
            Err(StartError::AddressInUse { .. }) => Ok(()),
            Err(error) => Err(Failure::Host(error)),
        }
    }

    pub(crate) fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// Whether receivers have not yet taken everything from the broker that we host.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.broker.as_ref().is_some_and(|broker| broker.queue_count() > 0 && broker.memory_octets() > 0)
    }

    /// Waits until the receivers have taken everything, or have gone.
    pub(crate) async fn until_taken(&self) {
        while self.is_waited_for() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells its clients, so that one of them takes over at once.
    pub(crate) async fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.shutdown().await;
        }
    }
}
