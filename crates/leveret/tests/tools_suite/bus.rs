//! The broker that a test runs on, and an exchange name that no other test uses.

use std::{
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use leveret::{Broker, BrokerBuilder};

use crate::{proxy::Proxy, tool::Tool};

/// A broker and an exchange on it.
pub(crate) struct Bus {
    pub(crate) url: String,
    pub(crate) exchange: String,
    /// Round the proxy, where there is one.
    pub(crate) direct_url: String,
}

impl Bus {
    pub(crate) fn new() -> Self {
        static EXCHANGES: AtomicU32 = AtomicU32::new(0);
        let number = EXCHANGES.fetch_add(1, Ordering::Relaxed);
        let url = broker_url();
        Self { direct_url: url.clone(), url, exchange: format!("tools-{}-{number}", process::id()) }
    }

    /// An exchange on a broker of the test's own.
    pub(crate) fn on(broker: &Broker) -> Self {
        Self { url: broker.amqp_uri(), direct_url: broker.amqp_uri(), exchange: "logs".to_owned() }
    }

    /// The same exchange by way of a proxy that can be cut.
    pub(crate) fn by_proxy() -> (Self, Proxy) {
        let bus = Self::new();
        let (before, rest) = bus.url.split_once("://").expect("a URL");
        let (login, host) =
            rest.rsplit_once('@').map_or((String::new(), rest), |(login, host)| (format!("{login}@"), host));
        let (host, path) =
            host.split_once('/').map_or((host, String::new()), |(host, path)| (host, format!("/{path}")));
        let target = if host.contains(':') { host.to_owned() } else { format!("{host}:5672") };
        let proxy = Proxy::start(&target);
        let url = format!("{before}://{login}{}{path}", proxy.address());
        (Self { url, ..bus }, proxy)
    }

    /// `leveret emit` or `leveret receive` on this exchange.
    pub(crate) fn tool(&self, subcommand: &str) -> Tool {
        Tool::new(subcommand).args(["--url", &self.url, "--exchange", &self.exchange])
    }

    /// The same, but not by way of the proxy.
    pub(crate) fn direct_tool(&self, subcommand: &str) -> Tool {
        Tool::new(subcommand).args(["--url", &self.direct_url, "--exchange", &self.exchange])
    }
}

/// One broker serves all tests of a run.
fn broker_url() -> String {
    static BROKER: LazyLock<Broker> = LazyLock::new(|| start(Broker::builder()));
    std::env::var("LEVERET_TEST_AMQP_URL").unwrap_or_else(|_| BROKER.amqp_uri())
}

/// A broker that is set up as no other test's.
pub(crate) fn start(builder: BrokerBuilder) -> Broker {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime to wait in");
    runtime.block_on(builder.start()).expect("a port is free")
}
