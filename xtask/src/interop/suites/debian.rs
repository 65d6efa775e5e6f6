//! Sources that Debian has of a program, without a change to the system's own list of package sources.
//!
//! Knows apt; not what is in the archives.
//! Invariant: apt checks what it gives here against the signed index of the release, and keeps its lists in our folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::super::process::Program;
use super::stage::Stage;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An archive of upstream's sources, as a release of Debian has it.
pub(super) struct UpstreamSource {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    pub(super) release: &'static str,
}

impl UpstreamSource {
    pub(super) fn describe(&self) -> String {
        format!("{} {} of Debian's {}", self.package, self.version, self.release)
    }

    /// Fetches the archive into `download`.
    pub(super) fn fetch(&self, stage: &Stage, download: &Path) -> Result<()> {
        let lists = stage.home.join("apt");
        fs::create_dir_all(lists.join("lists/partial"))?;
        let sources = format!("deb-src [signed-by={KEYRING}] {} {} main\n", mirror(stage)?, self.release);
        fs::write(lists.join("sources.list"), sources)?;
        stage.set_up(apt_get(&lists).args(["update", "--quiet"]))?;
        let wanted = format!("{}={}", self.package, self.version);
        let fetch = apt_get(&lists).args(["source", "--tar-only", "--download-only", "--quiet", &wanted]);
        stage
            .set_up(fetch.current_dir(download))
            .with_context(|| format!("cannot fetch {}", self.describe()))?;
        Ok(())
    }
}

/// Where this system has its Debian packages from.
fn mirror(stage: &Stage) -> Result<String> {
    let targets = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"];
    let found = stage.set_up(Program::new("apt-get-indextargets", "apt-get").args(targets))?;
    let first =
        found.into_iter().next().context("apt has no lists of Debian's packages: run apt-get update")?;
    Ok(first.trim_end_matches('/').to_owned())
}

/// An `apt-get` with the lists in `folder` rather than the system's.
fn apt_get(folder: &Path) -> Program {
    let options = [
        format!("Dir::Etc::sourcelist={}", folder.join("sources.list").display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State::lists={}", folder.join("lists").display()),
        "Dir::Cache::pkgcache=".to_owned(),
        "Dir::Cache::srcpkgcache=".to_owned(),
    ];
    let mut program = Program::new("apt-get-source", "apt-get");
    for option in options {
        program = program.args(["--option", &option]);
    }
    program
}
