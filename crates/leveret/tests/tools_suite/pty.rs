//! A terminal to run a tool on.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::fd::OwnedFd,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Both ends of a pseudo-terminal.
pub(crate) struct Pty {
    ours: File,
    path: String,
}

impl Pty {
    pub(crate) fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&ours).expect("ours");
        unlockpt(&ours).expect("ours");
        let path = ptsname(&ours, Vec::new()).expect("a name").into_string().expect("plain text");
        Self { ours: File::from(ours), path }
    }

    /// The end that a program is given.
    pub(crate) fn theirs(&self) -> OwnedFd {
        OpenOptions::new().read(true).write(true).open(&self.path).expect("it is there").into()
    }

    /// Reads until `end` is on the screen, and returns the screen.
    pub(crate) fn read_until(&mut self, end: &str) -> String {
        let mut screen = Vec::new();
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&screen).contains(end) {
            let octets = self.ours.read(&mut buffer).expect("the terminal is open");
            screen.extend_from_slice(&buffer[..octets]);
        }
        String::from_utf8(screen).expect("only UTF-8 is written to a terminal")
    }
}
