//! Where rendered messages are written to: stdout, or a file that is appended to.
//!
//! Knows octets and where each message ends in them; nothing of AMQP.
//! Invariant: a file holds whole messages. Where a write breaks off inside of one, the torn end is cut
//! off again, and where that is not possible it is reported.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::cli::Failure;

/// How old the oldest octet may be that is not on disk, when a sync begins. Half of what is promised, so
/// that the sync has the other half.
const UNSYNCED_MAX: Duration = Duration::from_millis(50);

/// Octets and the ends of the messages in them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) octets: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
    }

    /// How much of the first `written` octets belongs to a message that is not whole.
    fn torn(&self, written: usize) -> usize {
        let whole = self.ends.iter().take_while(|end| **end <= written).last().copied().unwrap_or(0);
        written - whole
    }
}

/// A write that broke off.
#[derive(Debug)]
struct Broken {
    error: io::Error,
    written: usize,
}

pub(crate) fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Writes to a pipe, a terminal or a file that a shell has opened. `Ok(false)` says that nobody reads it.
pub(crate) fn write_stdout(stdout: &mut File, batch: &Batch) -> Result<bool, Failure> {
    match write_all(stdout, &batch.octets) {
        Ok(()) => Ok(true),
        Err(broken) if broken.error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(broken) => {
            let torn = batch.torn(broken.written);
            Err(failure("stdout".to_owned(), &broken.error, &torn_note(torn, false)))
        }
    }
}

/// A file that is appended to.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// Whether a line at its end without a line feed is a torn one.
    whole_lines: bool,
    /// Where the file ends if nobody else writes to it; unknown for what is not a regular file.
    end: Option<u64>,
    unsynced_since: Option<Instant>,
}

impl LogFile {
    /// Opens or creates the file. The note says what was done about a torn line at its end.
    pub(crate) fn open(path: &Path, whole_lines: bool) -> Result<(Self, Option<String>), Failure> {
        let opened = Self::try_open(path, whole_lines);
        opened.map_err(|error| failure(path.display().to_string(), &error, ""))
    }

    fn try_open(path: &Path, whole_lines: bool) -> io::Result<(Self, Option<String>)> {
        let mut file = match OpenOptions::new().read(true).append(true).create(true).open(path) {
            // Whoever may only append cannot look at the last line either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                OpenOptions::new().append(true).create(true).open(path)
            }
            opened => opened,
        }?;
        let metadata = file.metadata()?;
        let note = match whole_lines && metadata.is_file() && ends_inside_a_line(&mut file, metadata.len()) {
            true => {
                file.write_all(b"\n")?;
                Some(format!(" [!] {} did not end with a line feed; one was added", path.display()))
            }
            false => None,
        };
        let end = metadata.is_file().then_some(metadata.len() + u64::from(note.is_some()));
        let unsynced_since = note.is_some().then(Instant::now);
        Ok((Self { path: path.to_owned(), file, whole_lines, end, unsynced_since }, note))
    }

    pub(crate) fn append(&mut self, batch: &Batch, now: Instant) -> Result<(), Failure> {
        self.unsynced_since.get_or_insert(now);
        match write_all(&mut self.file, &batch.octets) {
            Ok(()) => {
                self.end = self.end.map(|end| end + batch.octets.len() as u64);
                Ok(())
            }
            Err(broken) => {
                let torn = batch.torn(broken.written);
                let cut = torn > 0 && self.cut(broken.written, torn);
                // The whole messages before the break are as good as any.
                let _ = self.sync();
                Err(failure(self.path.display().to_string(), &broken.error, &torn_note(torn, cut)))
            }
        }
    }

    /// When the file must be synced at the latest; `None` when everything is on disk.
    pub(crate) fn sync_due(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + UNSYNCED_MAX)
    }

    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        if self.unsynced_since.take().is_none() {
            return Ok(());
        }
        match self.file.sync_data() {
            // Pipes and devices cannot be synced, and need not be.
            Err(error) if self.end.is_none() && error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced.map_err(|error| failure(self.path.display().to_string(), &error, "")),
        }
    }

    /// Goes on in the file that has the path now.
    pub(crate) fn reopen(&mut self) -> Result<Option<String>, Failure> {
        self.sync()?;
        let (reopened, note) = Self::open(&self.path, self.whole_lines)?;
        *self = reopened;
        Ok(note)
    }

    /// Takes the torn end back, if it is certain that it is ours and the last.
    fn cut(&mut self, written: usize, torn: usize) -> bool {
        let Some(end) = self.end.map(|end| end + written as u64) else { return false };
        let untouched = self.file.metadata().is_ok_and(|metadata| metadata.len() == end);
        untouched && self.file.set_len(end - torn as u64).is_ok()
    }
}

fn ends_inside_a_line(file: &mut File, len: u64) -> bool {
    let mut last = [0];
    let read = len > 0 && file.seek(SeekFrom::Start(len - 1)).is_ok() && file.read_exact(&mut last).is_ok();
    read && last != *b"\n"
}

fn write_all(file: &mut File, octets: &[u8]) -> Result<(), Broken> {
    let mut written = 0;
    while written < octets.len() {
        let error = match file.write(&octets[written..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(more) => {
                written += more;
                continue;
            }
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            // Whoever shares our stdout may have made it non-blocking.
            io::ErrorKind::WouldBlock if wait_until_writable(file).is_ok() => {}
            _ => return Err(Broken { error, written }),
        }
    }
    Ok(())
}

fn wait_until_writable(file: &File) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(file, PollFlags::OUT)], None)?;
    Ok(())
}

fn torn_note(torn: usize, cut: bool) -> String {
    match (torn, cut) {
        (0, _) => String::new(),
        (torn, true) => format!("; the {torn} octets of a torn line were taken back"),
        (torn, false) => format!("; it ends with the {torn} octets of a torn line"),
    }
}

fn failure(target: String, error: &io::Error, note: &str) -> Failure {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let detail = format!("{error}{note}");
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Failure::DiskFull { target, detail },
        _ => Failure::Output { target, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_torn_is_what_lies_after_the_last_whole_message() {
        let batch = Batch { octets: vec![0; 10], ends: vec![3, 3, 10] };
        assert_eq!([0, 2, 3, 5, 10].map(|written| batch.torn(written)), [0, 2, 0, 2, 0]);
    }

    #[test]
    fn a_full_device_is_told_apart_and_nothing_is_torn() {
        let (mut file, _) = LogFile::open(Path::new("/dev/full"), true).expect("the device is always there");
        let batch = Batch { octets: b"a\n".to_vec(), ends: vec![2] };
        let error = file.append(&batch, Instant::now()).expect_err("it is full");
        assert!(matches!(error, Failure::DiskFull { .. }), "{error:?}");
    }
}
