//! `cargo xtask tidy`: the repository's rules, as a command and as a test.
//!
//! Holds which files are looked at and how a breach is reported; the rules of single files are in
//! `rules`, and that of the page on compatibility in `promises`.
//! Invariant: what is built, fetched or ignored is never looked at.

mod paths;
mod promises;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What nobody wrote here. In a second work tree of a clone, `.git` is a file.
const NAMES_SKIPPED: [&str; 6] = [".git", "target", "node_modules", "__pycache__", "artifacts", "corpus"];

/// A text file of the repository; its path is relative to the root, with slashes.
struct Source {
    path: String,
    text: String,
}

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    path: String,
    line: usize,
    rule: String,
}

/// Prints every breach; whether there is none.
pub(crate) fn run() -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in no workspace")?;
    let sources = sources_below(root)?;
    let of_files = sources.iter().flat_map(rules::breaches_of);
    let breaches: Vec<Breach> = of_files.chain(promises::breaches_of(&sources)).collect();
    for Breach { path, line, rule } in &breaches {
        println!("{path}:{line}: {rule}");
    }
    println!("{} files, {} breaches of the repository's rules", sources.len(), breaches.len());
    Ok(breaches.is_empty())
}

fn sources_below(root: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    list_files(root, &mut files)?;
    files.sort();
    let sources = files.into_iter().filter_map(|file| read_source(root, &file).transpose());
    sources.collect()
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if NAMES_SKIPPED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list_files(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The file as text; none if it is something else, such as the corpus of a fuzz target.
fn read_source(root: &Path, file: &Path) -> Result<Option<Source>> {
    let octets = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let relative = file.strip_prefix(root).expect("the file was found below the root");
    let path = relative.to_string_lossy().replace('\\', "/");
    Ok(String::from_utf8(octets).ok().map(|text| Source { path, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_rules() {
        assert!(run().unwrap(), "the breaches are printed above");
    }

    #[test]
    fn what_was_built_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["src", "target", "docs/node_modules"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("it.txt"), "text").unwrap();
        }
        fs::write(root.path().join("src/octets"), b"\xff\xfe").unwrap();
        let found: Vec<String> =
            sources_below(root.path()).unwrap().into_iter().map(|source| source.path).collect();
        assert_eq!(found, ["src/it.txt"]);
    }
}
