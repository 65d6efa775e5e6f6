//! A socket to a broker, and the frames that come from it.
//!
//! Knows frames; not channels or methods.
//! Invariant: a read ends at the latest when its time is over.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use leveret_wire::{FrameKind, decode_frame};

/// For how long a broker may be silent before that counts as its answer.
pub(super) const SILENCE_TIME_MAX: Duration = Duration::from_secs(6);
const READ_OCTETS: usize = 64 * 1024;

/// What came next.
pub(super) enum Incoming {
    Frame(FrameKind, u16, Vec<u8>),
    /// Octets that are no frame, and then the end.
    NoFrame(Vec<u8>),
    End,
    Silence,
}

pub(super) struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    used: usize,
}

impl Wire {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, SILENCE_TIME_MAX)
            .with_context(|| format!("no broker takes connections on {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_TIME_MAX))?;
        stream.set_write_timeout(Some(SILENCE_TIME_MAX))?;
        Ok(Self { stream, input: Vec::new(), used: 0 })
    }

    /// Sends octets. That the peer has gone is for the next read to tell.
    pub(super) fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    /// Whatever comes next.
    pub(super) fn next(&mut self) -> Incoming {
        loop {
            match decode_frame(&self.input[self.used..], u32::MAX) {
                Ok(Some((frame, octets))) => {
                    let found = Incoming::Frame(frame.kind, frame.channel, frame.payload.to_vec());
                    self.used += octets;
                    return found;
                }
                Ok(None) => {}
                Err(_) => return self.rest(),
            }
            match self.read() {
                Ok(0) => return self.rest(),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Incoming::Silence,
                Err(_) => return self.rest(),
            }
        }
    }

    /// The end of the stream, with what was there of a frame or of something else.
    fn rest(&mut self) -> Incoming {
        let rest = self.input.split_off(self.used);
        self.input.clear();
        self.used = 0;
        if rest.is_empty() { Incoming::End } else { Incoming::NoFrame(rest) }
    }

    fn read(&mut self) -> std::io::Result<usize> {
        self.input.drain(..self.used);
        self.used = 0;
        let mut buffer = [0; READ_OCTETS];
        let octets = self.stream.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..octets]);
        Ok(octets)
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
