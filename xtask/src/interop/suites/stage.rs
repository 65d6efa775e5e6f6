//! What a suite is run with: a broker, a folder that is kept between runs, and its sources in it.
//!
//! Knows archives and patches; not what is in them.
//! Invariant: sources are those of the pinned version with the committed patch and nothing else, or are made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::apt;
use super::super::clients::Stamp;
use super::super::lab::Scene;
use super::super::process::Program;
use super::{Broker, Suite};

pub(super) const SET_UP_TIME_MAX: Duration = Duration::from_secs(900);

pub(super) struct Stage<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) suite: &'static Suite,
    pub(super) broker: Broker,
    /// Below the target folder; what is set up once stays here.
    pub(super) home: PathBuf,
}

impl<'a> Stage<'a> {
    pub(super) fn set(scene: &'a Scene<'a>, suite: &'static Suite) -> Result<Self> {
        let home = scene.target().join("suites").join(suite.name);
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        Ok(Self { scene, suite, broker: Broker::start(scene)?, home })
    }

    /// Where the suite's sources are unpacked.
    pub(super) fn source(&self) -> PathBuf {
        self.home.join("source")
    }

    /// A committed file of this suite's, `NAME.EXTENSION`.
    pub(super) fn committed(&self, extension: &str) -> PathBuf {
        self.scene.sources().join("suites").join(format!("{}.{extension}", self.suite.name))
    }

    /// Lays the sources of `version` in their folder with the suite's patch, if they are not there already. `fetch`
    /// makes that folder's content, given the folder itself and one for downloads.
    pub(super) fn lay_source(
        &self,
        version: &str,
        fetch: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let source = self.source();
        let patch = self.committed("patch");
        let patch_text = if patch.exists() { fs::read_to_string(&patch)? } else { String::new() };
        let stamp = Stamp::of(format!("{version}\n{patch_text}"), &source);
        if stamp.is_current() {
            return Ok(source);
        }
        println!("setting up {version} in {}", source.display());
        let download = self.home.join("download");
        for folder in [&source, &download] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir_all(folder)?;
        }
        fetch(&source, &download)?;
        if !patch_text.is_empty() {
            self.apply(&patch, &source)?;
        }
        stamp.set()?;
        Ok(source)
    }

    fn apply(&self, patch: &Path, source: &Path) -> Result<()> {
        let found = apt::need(self.scene.supervisor(), "patch", &["patch"], &self.home)?;
        let program =
            Program::new("patch", found).args(["-p1", "--forward", "--fuzz=0", "--input"]).args([patch]);
        self.set_up(program.current_dir(source)).context("the patch does not fit the sources").map(drop)
    }

    /// Unpacks the only archive in `download`, without the folder that everything in it is in.
    pub(super) fn unpack_only_archive(&self, download: &Path, source: &Path) -> Result<()> {
        let mut files = fs::read_dir(download)?.flatten().map(|entry| entry.path());
        let archive = files.next().context("nothing was downloaded")?;
        let tar =
            Program::new("tar", "tar").args(["--extract", "--strip-components=1", "--file"]).args([&archive]);
        self.set_up(tar.args(["--directory"]).args([source])).map(drop)
    }

    /// Runs a program that sets something up, to its end.
    pub(super) fn set_up(&self, program: Program) -> Result<Vec<String>> {
        self.scene.supervisor().run(program, &self.scene.folder, SET_UP_TIME_MAX)
    }

    /// Runs tests and gives what was printed. That tests fail is for their report to say, so the exit code is not
    /// looked at; and when the time is over, what was reported until then counts.
    pub(super) fn run_tests(&self, program: Program, time_max: Duration) -> Result<Vec<String>> {
        let program =
            program.env("AMQP_URL", self.broker.url()).env("BROKER_PORT", self.broker.port.to_string());
        let mut process = self.scene.spawn(program)?;
        if let Err(error) = process.wait(time_max) {
            self.scene.supervisor().interrupt().check()?;
            println!("       {error:#}");
            process.kill()?;
        }
        Ok(process.stdout.all())
    }
}
