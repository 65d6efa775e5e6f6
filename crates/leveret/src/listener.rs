//! Listening sockets, and the loop that accepts from them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use leveret_broker::engine::{Engine, Peer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::{clock::Clock, connection};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long accepting rests when the process or the machine is out of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// Opens a socket on that address. An address of IPv6 takes no IPv4, so that both can be
/// listened on side by side.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a broker that stopped a moment ago do not keep the next one off the port;
    // one that still listens does.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections for as long as the task lives.
pub(crate) async fn accept(listener: TcpListener, engine: Arc<Engine>, clock: Clock) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => start(stream, address, &engine, clock),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections; trying again in a moment");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn start(stream: TcpStream, address: SocketAddr, engine: &Arc<Engine>, clock: Clock) {
    // Small deliveries are to leave at once; a socket that is gone already fails here.
    let local = stream.set_nodelay(true).and_then(|()| stream.local_addr());
    let Ok(local) = local else { return };
    let peer = Peer {
        name: format!("{address} -> {local}"),
        is_loopback: address.ip().to_canonical().is_loopback(),
    };
    tokio::spawn(connection::serve(stream, peer, Arc::clone(engine), clock));
}

/// Errors of a connection that went before it was accepted, as `accept(2)` lists them.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
