//! What is sent in a round trip: a real log of this machine, and lines that are hard to carry.
//!
//! Makes files; knows nothing of brokers.
//! Invariant: a real log consists of whole lines in a fixed order, and the hard lines are always the same.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where this machine's texts are, real logs first. Some images carry no documentation, so there is more.
const ROOTS: [&str; 4] = ["/var/log", "/usr/share/doc", "/usr/share", "/usr/lib"];

const TEXT_EXTENSIONS: [&str; 9] = ["log", "gz", "txt", "md", "html", "py", "pl", "pm", "json"];

/// How many compressed files are unpacked by one zcat.
const BATCH_FILES_MAX: usize = 8;

/// A file of lines and what is in it.
pub(crate) struct Corpus {
    pub(crate) path: PathBuf,
    pub(crate) lines: u64,
    pub(crate) octets: u64,
}

impl Corpus {
    fn of(path: &Path) -> Result<Self> {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), lines: count_lines(&content), octets: content.len() as u64 })
    }
}

/// How many messages `content` makes: what follows the last line feed is one too, if there is anything.
fn count_lines(content: &[u8]) -> u64 {
    let ended = content.iter().filter(|octet| **octet == b'\n').count() as u64;
    ended + u64::from(content.last().is_some_and(|last| *last != b'\n'))
}

/// The first `lines` lines of this machine's logs and documentation, written to `path`.
pub(crate) fn real_log(path: &Path, lines: u64) -> Result<Corpus> {
    let mut sink = Sink { file: BufWriter::new(File::create(path)?), lines: 0, lines_wanted: lines };
    for root in ROOTS {
        if sink.lines == lines {
            break;
        }
        let mut files = BTreeSet::new();
        list_texts(Path::new(root), &mut files);
        sink.add_all(&files.into_iter().collect::<Vec<_>>())?;
    }
    sink.file.flush()?;
    ensure!(sink.lines == lines, "this machine's texts have {} lines, not {lines}", sink.lines);
    Corpus::of(path)
}

struct Sink {
    file: BufWriter<File>,
    lines: u64,
    lines_wanted: u64,
}

impl Sink {
    fn add_all(&mut self, files: &[PathBuf]) -> Result<()> {
        for batch in files.chunks(BATCH_FILES_MAX) {
            if self.lines >= self.lines_wanted {
                break;
            }
            let (packed, plain): (Vec<&PathBuf>, Vec<_>) =
                batch.iter().partition(|path| path.extension() == Some("gz".as_ref()));
            for path in plain {
                self.add(&fs::read(path).unwrap_or_default())?;
            }
            if !packed.is_empty() {
                self.add(&unpack(&packed)?)?;
            }
        }
        Ok(())
    }

    /// Adds as much of `text` as is still wanted.
    fn add(&mut self, text: &[u8]) -> Result<()> {
        let wanted = self.lines_wanted.saturating_sub(self.lines);
        for line in text.split_inclusive(|octet| *octet == b'\n').take(usize::try_from(wanted)?) {
            self.lines += 1;
            self.file.write_all(line.strip_suffix(b"\n").unwrap_or(line))?;
            self.file.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// What zcat makes of `files`; one that is broken gives what is left of it.
fn unpack(files: &[&PathBuf]) -> Result<Vec<u8>> {
    Ok(Command::new("zcat").args(files).output().context("cannot run zcat")?.stdout)
}

fn list_texts(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    // A folder that may not be read is one less source.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list_texts(&entry.path(), files),
            Ok(kind) if kind.is_file() && is_text(&entry.path()) => drop(files.insert(entry.path())),
            _ => {}
        }
    }
}

fn is_text(path: &Path) -> bool {
    path.extension().is_none_or(|extension| TEXT_EXTENSIONS.iter().any(|known| extension == *known))
        && !path.starts_with("/usr/lib/debug")
}

/// Lines that a careless program damages, written to `path`; the last has no line feed.
pub(crate) fn hard_lines(path: &Path) -> Result<Corpus> {
    fs::write(path, hard_lines_content()).with_context(|| format!("cannot write {}", path.display()))?;
    Corpus::of(path)
}

fn hard_lines_content() -> Vec<u8> {
    const LONG_LINE_OCTETS: usize = 10 * 1024 * 1024;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    // Empty lines, alone and in a row, at the start too.
    lines.extend([&b""[..], b"", b"one", b"", b"", b""].map(Vec::from));
    // NUL in every place.
    lines.extend([&b"\0"[..], b"\0start", b"mid\0dle", b"end\0", b"\0\0\0"].map(Vec::from));
    // CRLF, and carriage returns that end no line.
    lines.extend([&b"carriage return\r"[..], b"\r", b"a\rb", b"\r\r", b"\r "].map(Vec::from));
    // Octets that are no UTF-8: lone, cut off, overlong, a surrogate, beyond the last code point.
    lines.extend(
        [&b"\x80"[..], b"\xff\xfe", b"cut \xe2\x82", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"]
            .map(Vec::from),
    );
    // Every octet but the line feed.
    lines.push((0..=u8::MAX).filter(|octet| *octet != b'\n').collect());
    // What some libraries take for the end of a line.
    lines.extend(
        [&b"form\x0cfeed"[..], b"vertical\x0btab", b"\xc2\x85", b"\xe2\x80\xa8", b"\x1c\x1d\x1e"]
            .map(Vec::from),
    );
    // White space at both ends, terminal control, text that looks like a placeholder.
    lines.extend(
        [&b" \t both \t "[..], b"\x1b[31mred\x1b[0m\x07\x08", b"%s %n {} ${HOME} \\n"].map(Vec::from),
    );
    lines.push("Grüße, 世界, 🐇".into());
    for octets in lengths_at_limits() {
        lines.push(varied(octets));
    }
    lines.push(varied(LONG_LINE_OCTETS));
    lines.push(b"no line feed at the end".to_vec());
    lines.join(&b'\n')
}

/// Lengths about the sizes of buffers and frames: a body frame of 4096 or 131072 octets has 8 for itself.
fn lengths_at_limits() -> impl Iterator<Item = usize> {
    let limits = [255, 256, 4096 - 8, 4096, 8192, 65_536, 131_072 - 8, 131_072, 2 * (131_072 - 8), 1 << 20];
    limits.into_iter().flat_map(|limit| [limit - 1, limit, limit + 1])
}

/// A line in which no two places that are near each other look alike, so that a shift is noticed.
fn varied(octets: usize) -> Vec<u8> {
    let mut state = u32::try_from(octets).expect("a line is shorter than that") | 1;
    let next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [octet, ..] = state.to_be_bytes();
        if octet == b'\n' { b'.' } else { octet }
    };
    std::iter::repeat_with(next).take(octets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_as_messages() {
        for (content, lines) in [("", 0), ("\n", 1), ("a", 1), ("a\n", 1), ("a\nb", 2), ("\n\n", 2)] {
            assert_eq!(count_lines(content.as_bytes()), lines, "{content:?}");
        }
    }

    #[test]
    fn the_hard_lines_have_what_they_are_for() {
        let content = hard_lines_content();
        let lines: Vec<&[u8]> = content.split(|octet| *octet == b'\n').collect();
        assert!(lines.iter().any(|line| line.len() == 10 * 1024 * 1024));
        assert!(lines.iter().any(|line| line.ends_with(b"\r")));
        assert!(lines.iter().any(|line| line.contains(&0)));
        assert!(lines.iter().any(|line| std::str::from_utf8(line).is_err()));
        assert!(lines.contains(&&b""[..]));
        assert!(!content.ends_with(b"\n"));
        assert_eq!(content, hard_lines_content());
    }

    #[test]
    fn a_real_log_is_as_long_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = real_log(&folder.path().join("log"), 1000).unwrap();
        assert!(corpus.lines == 1000 && corpus.octets > corpus.lines);
        assert!(fs::read(corpus.path).unwrap().ends_with(b"\n"));
    }
}
