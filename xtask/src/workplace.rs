//! Where a measurement takes place: the workspace, a folder of its own, who watches over the
//! processes, and the leveret that is measured.
//!
//! Invariant: processes end before the folder goes that they write to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::interop::{leveret, process::Supervisor};

pub(crate) struct Workplace {
    pub(crate) supervisor: Supervisor,
    pub(crate) workspace: PathBuf,
    pub(crate) binary: PathBuf,
    folder: TempDir,
}

impl Workplace {
    /// A folder under `target/` for that measurement, and the given leveret, or the one that is
    /// built.
    pub(crate) fn set_up(measurement: &str, given: Option<&Path>) -> Result<Self> {
        let workspace =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in no workspace")?.to_owned();
        let target = workspace.join("target").join(measurement);
        fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&target)?;
        let supervisor = Supervisor::start()?;
        let binary = match given {
            Some(path) => path.canonicalize().context("no such leveret binary")?,
            None => leveret::build(&supervisor, &workspace, folder.path())?,
        };
        Ok(Self { supervisor, workspace, binary, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder there when the measurement is over, for somebody to look into.
    pub(crate) fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }
}
