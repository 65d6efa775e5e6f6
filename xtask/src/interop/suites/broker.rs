//! A broker of a suite's own, so that what one suite leaves behind cannot disturb another.
//!
//! Knows how each broker is started alone; not what runs against it.

use std::path::Path;

use anyhow::Result;

use super::super::lab::Scene;
use super::super::leveret;
use super::super::ports;
use super::super::rabbitmq::Cluster;
use super::Against;

/// A running broker on a port of 127.0.0.1, with guest's account as each broker makes it.
pub(super) struct Broker {
    kind: Kind,
    pub(super) port: u16,
}

enum Kind {
    Leveret(leveret::Server),
    RabbitMq(Cluster),
}

impl Broker {
    pub(super) fn start(scene: &Scene) -> Result<Self> {
        let folder = scene.folder.join("broker");
        match scene.against {
            Against::Leveret => Self::start_leveret(scene, &folder),
            Against::RabbitMq => {
                let cluster = Cluster::start(scene.supervisor(), &["alone"], &folder)?;
                let port = cluster.nodes[0].port();
                Ok(Self { kind: Kind::RabbitMq(cluster), port })
            }
        }
    }

    fn start_leveret(scene: &Scene, folder: &Path) -> Result<Self> {
        let [port] = ports::free()?;
        let server = leveret::Server::start(scene.supervisor(), scene.leveret_binary()?, port, folder)?;
        Ok(Self { kind: Kind::Leveret(server), port })
    }

    /// Stops the broker as an operator does, which fails if it ended before.
    pub(super) fn stop(self) -> Result<()> {
        match self.kind {
            Kind::Leveret(server) => server.stop(),
            Kind::RabbitMq(cluster) => cluster.stop(),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }
}
