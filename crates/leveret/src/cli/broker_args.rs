//! The arguments about brokers and exchanges that `emit` and `receive` share.
//!
//! Invariant: where no URL is configured the one address is the embedded one, and only then may a tool
//! host a broker there.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use lapin::types::ShortString;

use super::{
    amqp_url::{AmqpUrl, AmqpUrls},
    connect::Connector,
    embedded::Host,
    exchange::ExchangeType,
    headers::short_string,
    status::Status,
};

#[derive(clap::Args)]
pub(crate) struct BrokerArgs {
    /// Broker to connect to; several, repeated or with commas between them, are tried in turn
    ///
    /// A URL is amqp://USER:PASSWORD@HOST:PORT/VHOST, each part but the host optional; ?heartbeat=SECONDS
    /// may follow. Without one the broker is looked for at --embedded-address.
    #[arg(
        short,
        long = "url",
        visible_alias = "uri",
        value_name = "URL",
        env = "AMQP_URL",
        hide_env_values = true
    )]
    urls: Vec<AmqpUrls>,

    /// Where a broker is looked for, and may be hosted, when no URL is configured
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "LEVERET_EMBEDDED_ADDRESS",
        default_value = "127.0.0.1:5672",
        value_parser = loopback
    )]
    embedded_address: SocketAddr,

    /// How long one broker may take to accept the connection
    #[arg(long, value_name = "TIME", default_value = "10s")]
    connect_timeout: humantime::Duration,

    /// Keep trying when no broker can be reached at the start
    #[arg(long)]
    pub(crate) wait_for_broker: bool,

    /// Say nothing on stderr but the error that ends the program
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl BrokerArgs {
    /// `hosts` says whether a broker may be hosted where none is found and no URL names another.
    pub(crate) fn connector(
        &self,
        connection_name: &'static str,
        hosts: bool,
        status: &Rc<Status>,
    ) -> Connector {
        let mut urls: Vec<AmqpUrl> = self.urls.iter().flat_map(|urls| urls.0.clone()).collect();
        if urls.is_empty() {
            urls.push(AmqpUrl::of(self.embedded_address));
        }
        let host =
            (hosts && !self.names_a_broker()).then(|| Host::at(self.embedded_address, Rc::clone(status)));
        Connector::new(urls, connection_name, Duration::from(self.connect_timeout)).hosting(host)
    }

    /// Whether a URL was configured.
    pub(crate) fn names_a_broker(&self) -> bool {
        self.urls.iter().any(|urls| !urls.0.is_empty())
    }
}

#[derive(clap::Args)]
pub(crate) struct ExchangeArgs {
    /// Exchange to use; declared if it does not exist, taken as it is if it does
    #[arg(short, long, value_name = "NAME", default_value = "logs", value_parser = short_string)]
    pub(crate) exchange: ShortString,

    /// Type to declare the exchange with: fanout, direct, topic, headers, or one of a plugin
    #[arg(short = 't', long, value_name = "TYPE", default_value = "fanout")]
    pub(crate) exchange_type: ExchangeType,
}

fn loopback(typed: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = typed.parse().map_err(|_| "an address is typed IP:PORT".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("only a loopback address; for other hosts run leveret serve and use --url".to_owned()),
    }
}
