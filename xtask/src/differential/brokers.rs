//! The two brokers of a run: started here, or found where the command line says.
//!
//! Knows how they are started and stopped; not what is asked of them.
//! Invariant: what was started is stopped.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::duel::Brokers;
use crate::{
    interop::{leveret, ports, process::Interrupt, rabbitmq::Cluster},
    workplace::Workplace,
};

/// What runs, and where.
pub(super) struct Running {
    pub(super) brokers: Brokers,
    leveret: Option<leveret::Server>,
    rabbitmq: Option<Cluster>,
    workplace: Workplace,
}

impl Running {
    /// Starts what `peers` do not name: the first is the reference, the second what is held
    /// against it.
    pub(super) fn start(peers: &[String], binary: Option<&Path>) -> Result<Self> {
        if peers.len() > 2 {
            bail!("two brokers are compared, not {}", peers.len());
        }
        // Where no leveret is started, none is built: any program stands in for it.
        let stand_in: Option<PathBuf> = (peers.len() == 2).then(std::env::current_exe).transpose()?;
        let workplace = Workplace::set_up("differential", binary.or(stand_in.as_deref()))?;
        let (mut leveret, mut rabbitmq) = (None, None);
        let theirs = match peers.first() {
            Some(peer) => address(peer)?,
            None => {
                println!("starting RabbitMQ");
                let cluster = Cluster::start(&workplace.supervisor, &["reference"], workplace.folder())?;
                let port = cluster.nodes[0].port();
                rabbitmq = Some(cluster);
                SocketAddr::from(([127, 0, 0, 1], port))
            }
        };
        let ours = match peers.get(1) {
            Some(peer) => address(peer)?,
            None => {
                let [port] = ports::free()?;
                let folder = workplace.folder().join("leveret");
                leveret =
                    Some(leveret::Server::start(&workplace.supervisor, &workplace.binary, port, &folder)?);
                SocketAddr::from(([127, 0, 0, 1], port))
            }
        };
        Ok(Self { brokers: Brokers { ours, theirs }, leveret, rabbitmq, workplace })
    }

    pub(super) fn interrupt(&self) -> &Interrupt {
        self.workplace.supervisor.interrupt()
    }

    /// Where failing scripts are kept.
    pub(super) fn failures(&self) -> PathBuf {
        self.workplace.workspace.join("target/differential/failing")
    }

    /// Stops what was started; an error if a broker is no longer there.
    pub(super) fn stop(mut self) -> Result<()> {
        if let Some(mut server) = self.leveret.take() {
            if !server.is_running() {
                bail!("leveret ended before the scripts did");
            }
            server.stop()?;
        }
        if let Some(cluster) = self.rabbitmq.take() {
            cluster.stop()?;
        }
        Ok(())
    }
}

fn address(peer: &str) -> Result<SocketAddr> {
    let mut found = peer.to_socket_addrs().with_context(|| format!("{peer} is no HOST:PORT"))?;
    found.next().with_context(|| format!("{peer} has no address"))
}
