//! Connecting to one of several brokers, in turn, and again when it goes.
//!
//! Knows addresses, time-outs and why a try failed; what is declared and sent on the connection is the
//! caller's. Invariant: a try that did not become a `Link` leaves no socket and no thread behind.

use std::{fmt, io, sync::Mutex, time::Duration};

use async_compat::CompatExt;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, ErrorKind};
use tokio::{net::TcpStream, time::timeout};

use super::{amqp_url::AmqpUrl, backoff::Backoff, embedded::Host, persist::OpenError, sever::Sever};

/// How long a broker may take to answer a close before its socket is just shut.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// An open connection and the address it was made to.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) url: AmqpUrl,
    _sever: Sever,
}

impl Link {
    /// Says good-bye, so that the broker need not find out by itself.
    pub(crate) async fn close(self) {
        let _ = timeout(CLOSE_WAIT, self.connection.close(200, "bye".into())).await;
    }
}

/// Where to connect, and which address is next.
pub(crate) struct Connector {
    urls: Vec<AmqpUrl>,
    next: usize,
    connection_name: &'static str,
    attempt_timeout: Duration,
    host: Option<Host>,
    hint: &'static str,
}

impl Connector {
    pub(crate) fn new(urls: Vec<AmqpUrl>, connection_name: &'static str, attempt_timeout: Duration) -> Self {
        assert!(!urls.is_empty(), "a connector is made with an address");
        Self { urls, next: 0, connection_name, attempt_timeout, host: None, hint: "" }
    }

    /// Hosts a broker where nobody listens.
    pub(crate) fn hosting(self, host: Option<Host>) -> Self {
        Self { host, ..self }
    }

    /// What the user can do when nobody listens.
    pub(crate) fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    pub(crate) fn host(&mut self) -> Option<&mut Host> {
        self.host.as_mut()
    }

    /// The address that was just lost comes last in the next round.
    pub(crate) fn pass_over(&mut self) {
        self.next = (self.next + 1) % self.urls.len();
    }

    /// Tries every address once, and hosts a broker if that is wanted and nobody is there.
    pub(crate) async fn connect(&mut self) -> Result<Link, OpenError> {
        match (self.round().await, &mut self.host) {
            (Err(error), Some(host)) if error.nobody_listens() => {
                host.take_over().await.map_err(OpenError::Failure)?;
                self.round().await
            }
            (result, _) => result,
        }
        .map_err(OpenError::Connect)
    }

    async fn round(&mut self) -> Result<Link, ConnectError> {
        let mut attempts = Vec::new();
        for _ in 0..self.urls.len() {
            let url = self.urls[self.next].clone();
            match self.attempt(&url).await {
                Ok(link) => return Ok(link),
                Err(error) => attempts.push((url, error)),
            }
            self.pass_over();
        }
        Err(ConnectError { attempts, hint: self.hint })
    }

    async fn attempt(&self, url: &AmqpUrl) -> Result<Link, AttemptError> {
        let within = self.attempt_timeout;
        let late = |_| AttemptError::Silent(within);
        let stream = timeout(within, TcpStream::connect(url.host_and_port())).await.map_err(late)??;
        stream.set_nodelay(true)?;
        let sever = Sever::of(&stream)?;
        let connection = timeout(within, self.handshake(url, stream)).await.map_err(late)??;
        Ok(Link { connection, url: url.clone(), _sever: sever })
    }

    async fn handshake(&self, url: &AmqpUrl, stream: TcpStream) -> Result<Connection, lapin::Error> {
        let properties = ConnectionProperties::default().with_connection_name(self.connection_name.into());
        let stream = Mutex::new(Some(stream));
        let connect = async move |_, _| match stream.lock().ok().and_then(|mut stream| stream.take()) {
            Some(stream) => Ok(AsyncTcpStream::Plain(stream.compat())),
            None => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
        };
        Connection::connector(url.uri().clone(), lapin::runtime::default_runtime()?, connect, properties)
            .await
    }
}

/// The wait before the next round, with chance in it so that many clients do not come back as one.
pub(crate) async fn wait_before_retry(backoff: &mut Backoff) {
    // Without randomness the clients come back in step, which is worse and not wrong.
    tokio::time::sleep(backoff.next_wait(getrandom::u32().unwrap_or(u32::MAX))).await;
}

/// A whole round of tries, none of which led to a connection.
#[derive(Debug)]
pub(crate) struct ConnectError {
    attempts: Vec<(AmqpUrl, AttemptError)>,
    hint: &'static str,
}

impl ConnectError {
    /// Whether nothing listens at any of the addresses.
    fn nobody_listens(&self) -> bool {
        self.attempts.iter().all(|(_, error)| error.is_connection_refused())
    }

    /// What the user can do about it, on a line of its own; empty where we do not know.
    pub(crate) fn hint(&self) -> String {
        if self.nobody_listens() && !self.hint.is_empty() {
            format!("\n{}", self.hint)
        } else {
            String::new()
        }
    }

    /// Whether a broker was there and said no.
    pub(crate) fn is_answer(&self) -> bool {
        self.attempts
            .iter()
            .any(|(_, error)| matches!(error, AttemptError::Amqp(error) if error.is_amqp_error()))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection to a broker")?;
        for (url, error) in &self.attempts {
            write!(f, "; {url}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("no answer in {}", humantime::format_duration(*.0))]
    Silent(Duration),
    #[error(transparent)]
    Tcp(#[from] io::Error),
    #[error("{}", reason(.0))]
    Amqp(#[from] lapin::Error),
}

impl AttemptError {
    fn is_connection_refused(&self) -> bool {
        matches!(self, Self::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// The code with which a broker closed a channel or a connection.
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What a user should read of a failed connection: the broker's own words where it had any.
pub(crate) fn reason(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::MissingHeartbeatError => "no heartbeat from the broker".to_owned(),
        _ => error.to_string(),
    }
}
