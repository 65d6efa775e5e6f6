//! What a topic exchange's routes cost with more and more bindings, and a fresh key for each.
//!
//! Prints a table in the form of the documentation. Beside each size stands what a look into as
//! much memory costs, for that grows with it and not with the number of bindings. Maps are made
//! first and stay, so that the memory of one is not memory that another gave back.
//! Invariant: a key is routed once.

use std::{fs, hint::black_box, time::Instant};

use clap::Parser;
use leveret_micro::{
    Map,
    topics::{Numbers, binding_key, fresh_key},
};
use leveret_wire::{Table, TableBuf};

const QUEUES: u32 = 1000;
/// Rounds, of which the fastest is told: what else the machine does only adds.
const ROUNDS: usize = 5;
const PAGE_OCTETS: u64 = 4096;
/// Fewer bindings are lost in what the allocator has at hand.
const WEIGHED_BINDINGS_MIN: u64 = 10_000;
/// Looks into memory that are timed.
const LOOKS: u32 = 1_000_000;

/// Routes fresh keys through topic exchanges.
#[derive(Parser)]
struct Options {
    /// Sizes of the exchanges
    #[arg(long, value_delimiter = ',', default_value = "10,1000,100000,1000000",
          value_parser = clap::value_parser!(u64).range(1..))]
    bindings: Vec<u64>,
    /// Words of the keys
    #[arg(long, value_delimiter = ',', default_value = "2,3,5,8",
          value_parser = clap::value_parser!(u8).range(1..))]
    words: Vec<u8>,
    /// Keys routed in each of five rounds
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Said by `cargo bench` to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// An exchange, and what it takes.
struct Filled {
    map: Map,
    bindings: u64,
    octets: u64,
}

fn main() {
    let options = Options::parse();
    let filled: Vec<_> = options.bindings.iter().map(|&bindings| fill(bindings)).collect();
    let columns: String = options.words.iter().map(|words| format!(" {words} words |")).collect();
    println!("| bindings |{columns} a look into as much memory | octets a binding |");
    println!("|---:|{}---:|---:|", "---:|".repeat(options.words.len()));
    for Filled { map, bindings, octets } in &filled {
        let cell = |&words| {
            let (nanos, queues) = measure(map, *bindings, words, options.keys);
            format!(" {nanos} ns ({queues:.2}) |")
        };
        let cells: String = options.words.iter().map(cell).collect();
        let rest = match *bindings < WEIGHED_BINDINGS_MIN {
            true => "– | –".to_owned(),
            false => format!("{} ns | {}", look_nanos(*octets), octets / bindings),
        };
        println!("| {bindings} |{cells} {rest} |");
    }
}

fn fill(bindings: u64) -> Filled {
    let before = resident_octets();
    let (mut map, queues) = Map::with_queues(QUEUES);
    let topic = map.exchange("amq.topic");
    for (n, &queue) in (0..bindings).zip(queues.iter().cycle()) {
        map.bind(topic, &binding_key(n), TableBuf::new(), queue);
    }
    Filled { map, bindings, octets: resident_octets().saturating_sub(before) }
}

/// Nanoseconds for a route, and queues that it leads to.
fn measure(map: &Map, bindings: u64, words: u8, count: u32) -> (u128, f64) {
    let topic = map.exchange("amq.topic");
    let mut numbers = Numbers::new(words.into());
    let mut queues = 0;
    let round = |_| {
        // One behind the other, as a socket's reads bring them.
        let keys: Vec<_> = (0..count).map(|_| fresh_key(bindings, words.into(), &mut numbers)).collect();
        let keys = keys.join(" ");
        let began = Instant::now();
        for key in keys.split(' ') {
            queues += black_box(map.route(topic, key, Table::EMPTY));
        }
        began.elapsed().as_nanos() / u128::from(count)
    };
    let nanos = (0..ROUNDS).map(round).min().expect("there are rounds");
    #[allow(clippy::cast_precision_loss, reason = "a few million")]
    let queues_each = queues as f64 / (f64::from(count) * ROUNDS as f64);
    (nanos, queues_each)
}

/// Nanoseconds to read a place in so much memory that the place before it told.
fn look_nanos(octets: u64) -> u128 {
    let places = u32::try_from(octets / 4).expect("less than 16 GiB");
    let mut next: Vec<u32> = (0..places).collect();
    let mut numbers = Numbers::new(1);
    // Sattolo's shuffle, which makes one circle of all of them.
    for last in (1..next.len()).rev() {
        let other = numbers.below(last as u64);
        next.swap(last, usize::try_from(other).expect("below a length"));
    }
    let round = |_| {
        let began = Instant::now();
        let walked = (0..LOOKS).fold(0, |at, _| next[at as usize]);
        black_box(walked);
        began.elapsed().as_nanos() / u128::from(LOOKS)
    };
    (0..ROUNDS).map(round).min().expect("there are rounds")
}

fn resident_octets() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("this bench needs Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number is the resident pages") * PAGE_OCTETS
}
