//! What a topic exchange's routes cost with more and more bindings, and a fresh key for each.
//!
//! Prints a table in the form of the documentation. Maps stay until the end, so that the memory of
//! one is not memory that another gave back. Invariant: a key is routed once.

use std::{fs, hint::black_box, time::Instant};

use clap::Parser;
use leveret_micro::{
    Map,
    topics::{Numbers, binding_key, fresh_key},
};
use leveret_wire::{Table, TableBuf};

const QUEUES: u32 = 1000;
const WORDS: [usize; 4] = [2, 3, 5, 8];
/// Keys of each of the rounds, of which the middle one is told.
const KEYS: usize = 100_000;
const ROUNDS: usize = 5;
const PAGE_OCTETS: u64 = 4096;

/// Routes fresh keys through topic exchanges.
#[derive(Parser)]
struct Options {
    /// Sizes of the exchanges
    #[arg(long, value_delimiter = ',', default_value = "10,1000,100000,1000000",
          value_parser = clap::value_parser!(u64).range(1..))]
    bindings: Vec<u64>,
    /// Words of the keys
    #[arg(long, value_delimiter = ',', default_values_t = WORDS)]
    words: Vec<usize>,
    /// Keys routed in each of five rounds
    #[arg(long, default_value_t = KEYS)]
    keys: usize,
    /// Said by `cargo bench` to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let columns = options.words.iter().map(|words| format!(" {words} words |")).collect::<String>();
    println!("| bindings |{columns} octets a binding |\n|---:|{}---:|", "---:|".repeat(options.words.len()));
    let mut maps = Vec::new();
    for &bindings in &options.bindings {
        let before = resident_octets();
        let map = filled(bindings);
        let octets = resident_octets().saturating_sub(before);
        let cells: String = options
            .words
            .iter()
            .map(|&words| {
                let (nanos, queues) = measure(&map, bindings, words, options.keys);
                format!(" {nanos} ns ({queues:.2}) |")
            })
            .collect();
        // Too few bindings are lost in what the allocator has at hand.
        let octets = if bindings < 10_000 { "–".to_owned() } else { (octets / bindings).to_string() };
        println!("| {bindings} |{cells} {octets} |");
        maps.push(map);
    }
}

fn filled(bindings: u64) -> Map {
    let (mut map, queues) = Map::with_queues(QUEUES);
    let topic = map.exchange("amq.topic");
    for (n, &queue) in (0..bindings).zip(queues.iter().cycle()) {
        map.bind(topic, &binding_key(n), TableBuf::new(), queue);
    }
    map
}

/// Nanoseconds for a route, and queues that it leads to.
fn measure(map: &Map, bindings: u64, words: usize, count: usize) -> (u128, f64) {
    let topic = map.exchange("amq.topic");
    let mut numbers = Numbers::new(words as u64);
    let mut queues = 0;
    let mut round = || {
        let keys: Vec<_> = (0..count).map(|_| fresh_key(bindings, words, &mut numbers)).collect();
        let began = Instant::now();
        for key in &keys {
            queues += black_box(map.route(topic, key, Table::EMPTY));
        }
        began.elapsed().as_nanos() / count as u128
    };
    let mut nanos: Vec<_> = (0..ROUNDS).map(|_| round()).collect();
    nanos.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "a few million")]
    let queues_each = queues as f64 / (count * ROUNDS) as f64;
    (nanos[ROUNDS / 2], queues_each)
}

fn resident_octets() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("this bench needs Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number is the resident pages") * PAGE_OCTETS
}
