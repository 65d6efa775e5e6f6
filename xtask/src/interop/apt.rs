//! Debian packages that a test peer comes from, installed without starting their services.
//!
//! Knows apt and its policy file; not what the packages are for.
//! Invariant: `policy-rc.d` is afterwards what it was before, whatever the installation did.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{Program, Supervisor};

const POLICY: &str = "/usr/sbin/policy-rc.d";
const INSTALL_TIME_MAX: Duration = Duration::from_secs(500);

/// Makes sure that `executable` is on the PATH, from `packages` if need be.
pub(crate) fn need(
    supervisor: &Supervisor,
    executable: &str,
    packages: &[&str],
    folder: &Path,
) -> Result<PathBuf> {
    if let Some(found) = on_path(executable) {
        return Ok(found);
    }
    install(supervisor, packages, folder).with_context(|| format!("{executable} is not on the PATH"))?;
    on_path(executable)
        .with_context(|| format!("{executable} is not on the PATH though {packages:?} is installed"))
}

/// Installs Debian packages; an error that says what to do where that is not ours to do.
pub(crate) fn install(supervisor: &Supervisor, packages: &[&str], folder: &Path) -> Result<()> {
    let list = packages.join(" ");
    if on_path("apt-get").is_none() || !rustix::process::geteuid().is_root() {
        bail!("install {list} and run this again (it is done here only as root on Debian)");
    }
    println!("installing {list} with apt-get; its services are kept from starting");
    let _services_stay_off = PolicyGuard::begin(Path::new(POLICY))?;
    supervisor.run(apt_get(&["update"]), folder, INSTALL_TIME_MAX)?;
    let install = ["install", "--yes", "--no-install-recommends"];
    supervisor.run(apt_get(&[&install, packages].concat()), folder, INSTALL_TIME_MAX)?;
    Ok(())
}

fn apt_get(args: &[&str]) -> Program {
    // An Erlang package may start epmd while it is configured; then it listens on loopback, and ends with us.
    Program::new(format!("apt-get-{}", args[0]), "apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
}

/// Where `executable` is on the PATH.
pub(crate) fn on_path(executable: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(executable)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// While it lives, `invoke-rc.d` starts nothing. What was there before is kept beside it and put back.
struct PolicyGuard {
    policy: PathBuf,
    kept: PathBuf,
}

impl PolicyGuard {
    fn begin(policy: &Path) -> Result<Self> {
        let guard = Self { policy: policy.to_owned(), kept: policy.with_extension("d.before-interop") };
        if guard.kept.symlink_metadata().is_ok() {
            // An earlier run was killed in the middle: what it kept is the true one.
            guard.restore();
        }
        if guard.policy.symlink_metadata().is_ok() {
            fs::rename(&guard.policy, &guard.kept).context("cannot set policy-rc.d aside")?;
        }
        fs::write(&guard.policy, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
        fs::set_permissions(&guard.policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }

    fn restore(&self) {
        let _ = fs::remove_file(&self.policy);
        let _ = fs::rename(&self.kept, &self.policy);
    }
}

impl Drop for PolicyGuard {
    fn drop(&mut self) {
        self.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy-rc.d");
        if let Some(text) = before {
            fs::write(&policy, text).unwrap();
        }
        let guard = PolicyGuard::begin(&policy).unwrap();
        assert!(fs::read_to_string(&policy).unwrap().contains("exit 101"));
        assert!(is_executable(&policy));
        drop(guard);
        assert_eq!(fs::read_to_string(&policy).ok().as_deref(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), usize::from(before.is_some()));
    }

    #[test]
    fn the_policy_file_is_put_back() {
        check(Some("#!/bin/sh\nexit 0\n"));
    }

    #[test]
    fn no_policy_file_is_left_where_none_was() {
        check(None);
    }

    #[test]
    fn what_a_killed_run_set_aside_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy-rc.d");
        fs::write(&policy, "mine").unwrap();
        std::mem::forget(PolicyGuard::begin(&policy).unwrap());
        drop(PolicyGuard::begin(&policy).unwrap());
        assert_eq!(fs::read_to_string(&policy).unwrap(), "mine");
    }
}
