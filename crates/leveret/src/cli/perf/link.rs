//! A socket that never waits, and the octets that are on their way in and out.
//!
//! Reads go into a buffer that the caller shares among its links; only what is left of one is kept here.
//! Invariant: what is written leaves in order and whole.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use mio::{Interest, Registry, Token, net::TcpStream};

pub(super) struct Link {
    stream: TcpStream,
    rest: Vec<u8>,
    /// Octets to send, of which those before `sent` are gone.
    pub(super) out: Vec<u8>,
    sent: usize,
    /// Whether the socket took everything when it was last written to.
    is_writable: bool,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// So many octets now lie in the buffer, and there may be more to read.
    Full(usize),
    /// So many, and the socket has no more.
    All(usize),
    Nothing,
    Closed,
}

impl Link {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        Ok(Self { stream, rest: Vec::new(), out: Vec::new(), sent: 0, is_writable: false })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Whether the connection now stands.
    pub(super) fn is_connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                self.is_writable = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn set_writable(&mut self) {
        self.is_writable = true;
    }

    /// One read, behind what was left of the one before.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Came> {
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        let room = buffer.len() - kept;
        loop {
            return match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => Ok(Came::Closed),
                Ok(octets) => {
                    self.rest.clear();
                    Ok(if octets == room { Came::Full(kept + octets) } else { Came::All(kept + octets) })
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Came::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Keeps what is not yet a whole frame for the next read.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.rest.extend_from_slice(rest);
    }

    /// Writes as much as the socket takes; how many octets that is.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while self.is_writable && written < octets.len() {
            match self.stream.write(&octets[written..]) {
                Ok(taken) => written += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Sends what is in `out`; whether all of it is gone.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        if self.out.is_empty() {
            return Ok(true);
        }
        let out = std::mem::take(&mut self.out);
        self.sent += self.write(&out[self.sent..])?;
        self.out = out;
        if self.sent < self.out.len() {
            return Ok(false);
        }
        self.out.clear();
        self.sent = 0;
        Ok(true)
    }
}
