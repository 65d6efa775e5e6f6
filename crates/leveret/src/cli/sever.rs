//! A second handle on a connection's socket, to end it whatever the client library is waiting for.
//!
//! The library runs each connection on a thread of its own, which lives until its socket ends; a broker
//! that accepts and then says nothing would leave one such thread behind for every try.
//! Invariant: when a `Sever` is dropped its socket is shut down both ways.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
};

#[derive(Debug)]
pub(crate) struct Sever(TcpStream);

impl Sever {
    pub(crate) fn of(stream: &tokio::net::TcpStream) -> io::Result<Self> {
        Ok(Self(TcpStream::from(stream.as_fd().try_clone_to_owned()?)))
    }
}

impl Drop for Sever {
    fn drop(&mut self) {
        // An error says that the socket has ended already, which is all that is wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
