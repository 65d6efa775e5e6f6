//! Loopback ports: free ones for servers, when a broker answers on one, and who is connected to it.
//!
//! Knows sockets and the first octets of AMQP; not which broker listens.
//! Invariant: nothing here leaves the loopback interface.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::Process;

const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// Type 1 (method) and channel 0: how the frame with connection.start begins.
const FIRST_FRAME_PREFIX: [u8; 3] = [1, 0, 0];

/// `COUNT` different ports that nobody listens on at the moment.
pub(crate) fn free<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback");
    // All are held until the last is found, so that none is given twice.
    let held = (0..COUNT).map(|_| bind()).collect::<Result<Vec<_>>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Whether nobody listens on `port` of 127.0.0.1, so that a server could.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Waits until `server` answers a protocol header on `port` as an AMQP 0-9-1 broker does.
pub(crate) fn await_broker(server: &mut Process, port: u16, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !answers(port) {
        if let Some(status) = server.has_ended()? {
            bail!("{} ended with {status} before it listened{}", server.name(), server.last_words());
        }
        if Instant::now() >= deadline {
            bail!("{} does not answer on port {port}{}", server.name(), server.last_words());
        }
        // There is no event to wait for before the port is open: its owner may end, which ends this too.
        server.rest(Duration::from_millis(20))?;
    }
    Ok(())
}

/// Whether a broker answers on this port of 127.0.0.1 now.
pub(crate) fn answers(port: u16) -> bool {
    first_frame_prefix(port).is_ok_and(|found| found == FIRST_FRAME_PREFIX)
}

fn first_frame_prefix(port: u16) -> std::io::Result<[u8; 3]> {
    const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME_MAX)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(&PROTOCOL_HEADER)?;
    let mut prefix = [0; 3];
    stream.read_exact(&mut prefix)?;
    Ok(prefix)
}

/// How many established client connections lead to `port` of 127.0.0.1.
pub(crate) fn connections_to(port: u16) -> Result<usize> {
    let table = fs::read_to_string("/proc/net/tcp").context("cannot read the table of connections")?;
    Ok(count_connections(&table, port))
}

fn count_connections(table: &str, port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let remote = format!("0100007F:{port:04X}");
    let leads_there = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2) == Some(&remote.as_str()) && fields.get(3) == Some(&ESTABLISHED)
    };
    table.lines().filter(leads_there).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_towards_the_port_count() {
        let table = "  sl  local_address rem_address   st\n   \
            0: 0100007F:1628 00000000:0000 0A 0:0\n   \
            1: 0100007F:1628 0100007F:D431 01 0:0\n   \
            2: 0100007F:D431 0100007F:1628 01 0:0\n   \
            3: 0100007F:D432 0100007F:1628 06 0:0\n";
        assert_eq!(count_connections(table, 5672), 1);
        assert_eq!(count_connections(table, 5673), 0);
    }

    #[test]
    fn a_real_connection_is_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(connections_to(port).unwrap(), 1);
    }

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free().unwrap();
        assert!(a != b && b != c && a != c);
    }

    #[test]
    fn a_port_that_speaks_something_else_is_no_broker() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server =
            std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"HTTP/1.1 400").unwrap());
        assert!(!answers(port));
        server.join().unwrap();
    }
}
