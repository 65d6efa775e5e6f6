//! The repository's rules: what is absent from each part, and how a file is laid out.
//!
//! Holds the rules as data and the few functions that judge a file by them.
//! Invariant: every rule has a test in which it is broken.

use super::{Breach, Source, paths};

/// Paths that no file below a folder names.
struct Absent {
    below: &'static str,
    paths: &'static [&'static str],
    why: &'static str,
}

/// What the crates without I/O, clock, threads, runtime and randomness of their own must not name.
const OUTSIDE_WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "fastrand",
    "getrandom",
    "mio",
    "rand",
    "socket2",
    "tokio",
];

const ABSENT: &[Absent] = &[
    Absent {
        below: "crates/wire/src",
        paths: OUTSIDE_WORLD,
        why: "the codec has no I/O, clock or randomness",
    },
    Absent {
        below: "crates/broker/src",
        paths: OUTSIDE_WORLD,
        why: "the broker is given octets, time and randomness",
    },
    Absent {
        below: "crates/broker/src/model",
        paths: &["crate::session", "crate::store"],
        why: "the model knows neither frames nor files",
    },
    Absent {
        below: "crates/broker/src/session",
        paths: &["crate::model", "crate::store"],
        why: "a session knows neither routing nor storage",
    },
    Absent {
        below: "crates/broker/src/store",
        paths: &["crate::session", "crate::model"],
        why: "the store knows nothing of what AMQP means",
    },
    Absent {
        below: "crates/broker/src/access",
        paths: &["crate::engine", "crate::model", "crate::session", "crate::store"],
        why: "who may do what follows from names alone",
    },
];

/// Crates that the manifests of the parts above must not list.
const CRATES_ABSENT: &[&str] = &["fastrand", "getrandom", "mio", "rand", "socket2", "tokio"];
const MANIFESTS_WITHOUT_THEM: &[&str] = &["crates/wire/Cargo.toml", "crates/broker/Cargo.toml"];

const LINES_MAX: usize = 800;
const SOURCE_EXTENSIONS: &[&str] = &["rs", "py", "js", "sh"];

/// First folders of paths that are there on one machine only.
const MACHINE_FOLDERS: &[&str] = &["home", "root", "Users", "work"];

/// All that is wrong with a file.
pub(super) fn breaches_of(source: &Source) -> Vec<Breach> {
    let found = [
        absent_paths(source),
        absent_crates(source),
        file_layout(source),
        trailing_space(source),
        machine_paths(source),
        download_addresses(source),
    ];
    let breach = |(line, rule)| Breach { path: source.path.clone(), line, rule };
    found.into_iter().flatten().map(breach).collect()
}

/// A line's number and what is wrong with it.
type Fault = (usize, String);

fn absent_paths(source: &Source) -> Vec<Fault> {
    let rules: Vec<&Absent> = ABSENT.iter().filter(|rule| is_below(&source.path, rule.below)).collect();
    if rules.is_empty() || !source.path.ends_with(".rs") {
        return Vec::new();
    }
    let named = match paths::named_in(&source.path, &source.text) {
        Ok(named) => named,
        Err(error) => return vec![(1, error.to_string())],
    };
    let broken = |named: &paths::NamedPath| {
        let rule = rules.iter().find(|rule| rule.paths.iter().any(|absent| names(&named.path, absent)))?;
        Some((named.line, format!("{} must not be here: {}", named.path, rule.why)))
    };
    named.iter().filter_map(broken).collect()
}

/// Whether `file` is the module at `folder` or a part of it.
fn is_below(file: &str, folder: &str) -> bool {
    file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Whether `path` names `absent` or something in it. What is called `now` may come by way of an import.
fn names(path: &str, absent: &str) -> bool {
    let within = path.strip_prefix(absent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    within || (absent.ends_with("::now") && path.ends_with(&format!("::{absent}")))
}

fn absent_crates(source: &Source) -> Vec<Fault> {
    if !MANIFESTS_WITHOUT_THEM.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let listed = |line: &str| {
        let key = line.split(['=', '.']).next().unwrap_or_default().trim();
        CRATES_ABSENT.contains(&key)
    };
    let fault = |_: &str| "this crate must not depend on that".to_owned();
    faulty_lines(source, listed, fault)
}

fn file_layout(source: &Source) -> Vec<Fault> {
    let extension = source.path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    if SOURCE_EXTENSIONS.contains(&extension) && lines > LINES_MAX {
        faults.push((LINES_MAX + 1, format!("{lines} lines are more than {LINES_MAX}")));
    }
    if extension == "rs" && !source.text.starts_with("//!") {
        faults.push((1, "a Rust file opens with //! and what it holds".to_owned()));
    }
    faults
}

fn trailing_space(source: &Source) -> Vec<Fault> {
    let trails = |line: &str| line.ends_with([' ', '\t', '\r']);
    faulty_lines(source, trails, |_| "white space at the end of the line".to_owned())
}

fn machine_paths(source: &Source) -> Vec<Fault> {
    let fault = |_: &str| "a path of one machine".to_owned();
    faulty_lines(source, |line| MACHINE_FOLDERS.iter().any(|folder| has_path_into(line, folder)), fault)
}

/// Whether an absolute path in `line` begins with `folder`.
fn has_path_into(line: &str, folder: &str) -> bool {
    let start = format!("/{folder}/");
    let is_absolute = |(at, _): (usize, &str)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || "._-~}/)".contains(it))
    };
    line.match_indices(&start).any(is_absolute)
}

/// A list of packages names them by version and digest; where one downloaded them is one's own affair.
fn download_addresses(source: &Source) -> Vec<Fault> {
    let tells = |line: &str| source.path.ends_with("package-lock.json") && line.contains("\"resolved\"");
    faulty_lines(source, tells, |_| "the address of a download".to_owned())
}

fn faulty_lines(
    source: &Source,
    is_faulty: impl Fn(&str) -> bool,
    fault: impl Fn(&str) -> String,
) -> Vec<Fault> {
    let numbered = source.text.split('\n').enumerate();
    numbered.filter(|(_, line)| is_faulty(line)).map(|(index, line)| (index + 1, fault(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `text`, as the file at `path`, that break a rule.
    fn check(path: &str, text: &str, expected: &[usize]) {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        let lines: Vec<usize> = breaches_of(&source).iter().map(|breach| breach.line).collect();
        assert_eq!(lines, expected, "{path}: {text}");
    }

    fn check_code(path: &str, code: &str, is_allowed: bool) {
        check(path, &format!("//! It.\n{code}\n"), if is_allowed { &[] } else { &[2] });
    }

    #[test]
    fn the_crates_without_io_name_nothing_of_the_outside_world() {
        for path in
            ["crates/wire/src/frame.rs", "crates/broker/src/engine/publish.rs", "crates/broker/src/lib.rs"]
        {
            for absent in [
                "use std::net::TcpStream;",
                "use std::{fs, io};",
                "fn f() { std::thread::spawn(g); }",
                "fn f() { let now = Instant::now(); }",
                "fn f() { let now = std::time::Instant::now(); }",
                "fn f() { let now = time::SystemTime::now(); }",
                "#[tokio::test] async fn f() {}",
                "use rand::Rng;",
            ] {
                check_code(path, absent, false);
            }
            for present in
                ["use std::time::Instant;", "// std::fs", "let rand = \"tokio::main\";", "use std::io;"]
            {
                check_code(path, present, true);
            }
        }
        check_code("crates/leveret/src/server.rs", "use std::net::TcpStream;", true);
    }

    #[test]
    fn the_inner_arrows_of_the_broker_point_one_way() {
        for (part, absent) in [
            ("model", "session"),
            ("model", "store"),
            ("session", "model"),
            ("session", "store"),
            ("store", "session"),
            ("store", "model"),
        ] {
            let nested = format!("crates/broker/src/{part}/inner/leaf.rs");
            check_code(&nested, &format!("use crate::{absent}::Thing;"), false);
            check_code(&nested, &format!("use super::super::super::{absent};"), false);
            check_code(&nested, &format!("use super::{absent};"), true);
            check_code(&format!("crates/broker/src/{part}.rs"), &format!("use super::{absent};"), false);
            check_code("crates/broker/src/engine/publish.rs", &format!("use crate::{absent};"), true);
        }
        check_code("crates/broker/src/models.rs", "use crate::session::Id;", true);
        check_code("crates/broker/src/access/user.rs", "use crate::model::queue::Queue;", false);
        check_code("crates/broker/src/access/user.rs", "use crate::pattern::Pattern;", true);
    }

    #[test]
    fn the_crates_without_io_depend_on_no_runtime() {
        check(
            "crates/broker/Cargo.toml",
            "[dependencies]\ntokio.workspace = true\nrandom-access = \"1\"\n",
            &[2],
        );
        check("crates/wire/Cargo.toml", "[dependencies]\nrand = \"0.9\"\n", &[2]);
        check("crates/leveret/Cargo.toml", "[dependencies]\ntokio.workspace = true\n", &[]);
    }

    #[test]
    fn code_that_cannot_be_read_is_told() {
        check("crates/wire/src/frame.rs", "//! It.\nfn f( {", &[1]);
    }

    #[test]
    fn a_file_is_at_most_so_long() {
        check("xtask/src/long.rs", &"//!\n".repeat(LINES_MAX), &[]);
        check("xtask/src/long.rs", &"//!\n".repeat(LINES_MAX + 1), &[LINES_MAX + 1]);
        check("tests/interop/python/long.py", &"#\n".repeat(LINES_MAX + 1), &[LINES_MAX + 1]);
        check("Cargo.lock", &"#\n".repeat(LINES_MAX + 1), &[]);
    }

    #[test]
    fn a_rust_file_says_what_it_holds() {
        check("xtask/src/bare.rs", "fn main() {}\n", &[1]);
        check("tests/interop/python/bare.py", "import pika\n", &[]);
    }

    #[test]
    fn no_line_ends_in_white_space() {
        check("README.md", "one \ntwo\t\nthree\r\nfour\n", &[1, 2, 3]);
    }

    #[test]
    fn no_path_of_one_machine_is_written_down() {
        for folder in MACHINE_FOLDERS {
            check("README.md", &format!("see /{folder}/leveret\n"), &[1]);
            check("README.md", &format!("see=\"/{folder}/leveret\"\n"), &[1]);
            check("README.md", &format!("see docs/{folder}/leveret, ./{folder}/x and $DIR/{folder}/\n"), &[]);
        }
    }

    #[test]
    fn lists_of_packages_do_not_say_where_they_were_downloaded() {
        check("tests/interop/javascript/package-lock.json", "{\n\"resolved\": \"x\"\n}\n", &[2]);
        check("docs/notes.md", "\"resolved\"\n", &[]);
    }
}
