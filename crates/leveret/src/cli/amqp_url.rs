//! Broker addresses as they are typed: one AMQP URL, or several with commas between them.
//!
//! Knows how a URL is read and shown; connecting to it is `connect`'s.
//! Invariant: what is shown of a URL never holds its password.

use std::{fmt, net::SocketAddr, str::FromStr};

use lapin::uri::{AMQPScheme, AMQPUri};

/// The address of one broker, with who logs in there and to which virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AmqpUrl(AMQPUri);

impl AmqpUrl {
    /// The default user on the default virtual host of the broker at `address`.
    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut uri = AMQPUri::default();
        uri.authority.host = address.ip().to_string();
        uri.authority.port = address.port();
        Self(uri)
    }

    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.0
    }

    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        (&self.0.authority.host, self.0.authority.port)
    }
}

impl FromStr for AmqpUrl {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let mut uri = typed
            .parse::<AMQPUri>()
            .map_err(|error| format!("{error} (a URL looks like amqp://user:password@host:5672/vhost)"))?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err("amqps:// needs TLS, which this build cannot do yet".to_owned());
        }
        // The parser takes names and IPv4 addresses only, and puts localhost for anything else.
        if let Some(host) = ipv6_host(typed) {
            uri.authority.host = host.to_owned();
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.host_and_port();
        match host.contains(':') {
            true => write!(f, "amqp://[{host}]:{port}")?,
            false => write!(f, "amqp://{host}:{port}")?,
        }
        match self.0.vhost.as_str() {
            "/" => Ok(()),
            vhost => write!(f, "/{vhost}"),
        }
    }
}

fn ipv6_host(typed: &str) -> Option<&str> {
    let rest = typed.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}

/// One value of `--url` or `AMQP_URL`: any number of URLs, and none where nothing is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AmqpUrls(pub(crate) Vec<AmqpUrl>);

impl FromStr for AmqpUrls {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let urls = typed.split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(AmqpUrl::from_str).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, shown: &str) {
        assert_eq!(typed.parse::<AmqpUrl>().expect(typed).to_string(), shown);
    }

    #[test]
    fn a_url_is_shown_without_its_login() {
        check("amqp://localhost", "amqp://localhost:5672");
        check("amqp://ann:secret@mq.example:5673/%2f", "amqp://mq.example:5673");
        check("amqp://ann:secret@10.0.0.7/logs", "amqp://10.0.0.7:5672/logs");
        check("amqp://localhost/", "amqp://localhost:5672/");
    }

    #[test]
    fn an_ipv6_address_is_kept() {
        check("amqp://[::1]", "amqp://[::1]:5672");
        check("amqp://u:p@[fe80::2]:5680/%2F?heartbeat=5", "amqp://[fe80::2]:5680");
        let url = "amqp://[::1]:5680".parse::<AmqpUrl>().expect("an address");
        assert_eq!(url.host_and_port(), ("::1", 5680));
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (typed, reason) in [
            ("localhost:5672", "looks like"),
            ("http://localhost", "looks like"),
            ("amqps://localhost", "TLS"),
            ("amqp://localhost:99999", "looks like"),
        ] {
            let error = typed.parse::<AmqpUrl>().expect_err(typed);
            assert!(error.contains(reason), "{typed}: {error}");
        }
    }

    #[test]
    fn several_are_split_at_commas_and_an_empty_value_is_none() {
        let urls: AmqpUrls = "amqp://a, amqp://b:1 ,".parse().expect("two");
        assert_eq!(
            urls.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["amqp://a:5672", "amqp://b:1"]
        );
        assert_eq!("".parse(), Ok(AmqpUrls::default()));
        assert!("amqp://a,nonsense".parse::<AmqpUrls>().is_err());
    }
}
