//! What a difference looks like on paper: the script, and what both brokers said.
//!
//! Invariant: what is written can be run again with `--script`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    comparison::Heard,
    duel::Found,
    operation::{Script, Step},
};

/// Writes the script and the difference into `folder`; the script's path.
pub(super) fn keep(folder: &Path, script: &Script, text: &str, number: usize) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{number:02}-seed-{}.json", script.seed));
    fs::write(&path, to_text(script)?).with_context(|| format!("cannot write {}", path.display()))?;
    fs::write(path.with_extension("txt"), text)?;
    Ok(path)
}

/// A script as a file: one step a line.
pub(super) fn to_text(script: &Script) -> Result<String> {
    let mut text = format!(
        "{{\"seed\": {}, \"connections\": {}, \"steps\": [\n",
        script.seed,
        serde_json::to_string(&script.connections)?
    );
    for (number, step) in script.steps.iter().enumerate() {
        let comma = if number + 1 < script.steps.len() { "," } else { "" };
        let _ = writeln!(text, "{}{comma}", serde_json::to_string(step)?);
    }
    Ok(text + "]}\n")
}

/// Reads a script from its file.
pub(super) fn read(path: &Path) -> Result<Script> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no script", path.display()))
}

/// The scripts that are in the repository because brokers differed on them.
pub(super) fn kept() -> Result<Vec<Script>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/differential/kept");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    files.map(|file| read(&file?.path())).collect()
}

/// The steps with what the reference said to each, and where the other one differs.
pub(super) fn tell(script: &Script, trace: &[Option<(Step, Heard)>], found: &Found) -> String {
    let mut text = String::new();
    for (number, step) in script.steps.iter().enumerate().take(found.step + 1) {
        let taken = trace.get(number).and_then(Option::as_ref);
        let _ = writeln!(text, "{number:3} {}", line(taken.map_or(step, |(step, _)| step)));
        taken.iter().for_each(|(_, heard)| tell_heard(&mut text, "   ", heard));
    }
    if found.step >= script.steps.len() {
        text += "    after the last step\n";
    }
    tell_heard(&mut text, "ours  ", &found.ours);
    tell_heard(&mut text, "theirs", &found.theirs);
    let _ = writeln!(text, "difference: {}", found.difference);
    text
}

fn line(step: &Step) -> String {
    let operation = serde_json::to_string(&step.operation).unwrap_or_default();
    format!("{}.{} {operation}", step.connection, step.channel).replace("false", "f").replace("true", "T")
}

fn tell_heard(text: &mut String, who: &str, heard: &Heard) {
    for ((connection, channel), event) in heard {
        let connection = if *connection == usize::MAX { "login".to_owned() } else { connection.to_string() };
        let _ = writeln!(text, "      {who} {connection}.{channel} {event}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{
        features::{Features, Group},
        generator,
    };

    #[test]
    fn a_script_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let script = generator::script(5, Group::Errors, Features { all: true });
        let path = keep(folder.path(), &script, "why", 1).unwrap();
        assert_eq!(read(&path).unwrap(), script);
        assert_eq!(fs::read_to_string(path.with_extension("txt")).unwrap(), "why");
        assert!(read(&path.with_extension("txt")).is_err());
    }

    #[test]
    fn kept_scripts_are_small_and_readable() {
        let kept = kept().unwrap();
        assert!(!kept.is_empty());
        assert!(kept.iter().all(|script| (1..20).contains(&script.steps.len())));
    }
}
