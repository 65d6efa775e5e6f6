//! Records the seeds of the corpora: stands between one client and a broker, passes their octets
//! on, and writes down what they said, cut as each fuzz target reads it.
//!
//! `record_corpus LISTEN BROKER NAME`, such as `127.0.0.1:5673 127.0.0.1:5672 pika`; then run the
//! client against LISTEN. Only what is not there yet is written; rename or remove to record anew.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use leveret_wire::method::{basic, connection, exchange, queue};
use leveret_wire::{FrameKind, Method, Table, decode_frame};

/// A recording longer than this would make a poor seed.
const RECORDING_OCTETS_MAX: usize = 16 * 1024;
const PROTOCOL_HEADER_OCTETS: usize = 8;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, broker, name] = &arguments[..] else {
        return Err(io::Error::other("usage: record_corpus LISTEN BROKER NAME"));
    };
    let (client, _) = TcpListener::bind(listen)?.accept()?;
    let broker = TcpStream::connect(broker)?;
    let (from_client, from_broker) = thread::scope(|scope| {
        let to_broker = scope.spawn(|| pass_on(&client, &broker));
        let to_client = pass_on(&broker, &client);
        (to_broker.join().expect("passing on does not panic"), to_client)
    });
    let (from_client, from_broker) = (from_client?, from_broker?);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    write_seed(&corpus, "session_handshake", name, &from_client)?;
    write_seed(&corpus, "connection", name, &from_client)?;
    write_frames(&corpus, &format!("{name}-client"), &from_client, PROTOCOL_HEADER_OCTETS)?;
    write_frames(&corpus, &format!("{name}-broker"), &from_broker, 0)
}

/// Passes octets on until one side closes, and returns them.
fn pass_on(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<Vec<u8>> {
    let mut recording = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // A side that resets the connection is done, too.
        let count = from.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            // The other side may have closed first.
            let _ = to.shutdown(Shutdown::Write);
            return Ok(recording);
        }
        to.write_all(&buffer[..count])?;
        recording.extend_from_slice(&buffer[..count]);
    }
}

fn write_frames(corpus: &Path, name: &str, stream: &[u8], start: usize) -> io::Result<()> {
    write_seed(corpus, "frame", name, stream)?;
    let mut rest = stream.get(start..).unwrap_or_default();
    while let Ok(Some((frame, taken))) = decode_frame(rest, u32::MAX) {
        rest = &rest[taken..];
        if frame.kind != FrameKind::Method {
            continue;
        }
        let method = Method::decode(frame.payload).map_err(io::Error::other)?;
        write_seed(corpus, "method", method.name(), frame.payload)?;
        if let Some(table) = table_of(&method).filter(|table| !table.is_empty()) {
            write_seed(corpus, "table", &format!("{}-{name}", method.name()), table.as_bytes())?;
        }
    }
    Ok(())
}

fn table_of<'a>(method: &Method<'a>) -> Option<Table<'a>> {
    match *method {
        Method::ConnectionStart(connection::Start { server_properties, .. }) => Some(server_properties),
        Method::ConnectionStartOk(connection::StartOk { client_properties, .. }) => Some(client_properties),
        Method::ExchangeDeclare(exchange::Declare { arguments, .. }) => Some(arguments),
        Method::QueueDeclare(queue::Declare { arguments, .. }) => Some(arguments),
        Method::QueueBind(queue::Bind { arguments, .. }) => Some(arguments),
        Method::BasicConsume(basic::Consume { arguments, .. }) => Some(arguments),
        _ => None,
    }
}

fn write_seed(corpus: &Path, target: &str, name: &str, octets: &[u8]) -> io::Result<()> {
    let file: PathBuf = corpus.join(target).join(name);
    if octets.len() > RECORDING_OCTETS_MAX {
        return Err(io::Error::other(format!("{} octets are too many for {}", octets.len(), file.display())));
    }
    fs::create_dir_all(corpus.join(target))?;
    match fs::File::create_new(&file) {
        Ok(mut created) => created.write_all(octets),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
