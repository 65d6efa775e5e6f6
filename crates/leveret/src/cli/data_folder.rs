//! Where a broker's data folder is when nobody says where.
//!
//! Knows the platform's conventions; neither makes nor opens anything.

use std::{env, ffi::OsStr, path::PathBuf};

use etcetera::base_strategy::{BaseStrategy as _, Xdg};

/// The folder that a service manager gives, or the user's own.
pub(crate) fn default_folder() -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os("STATE_DIRECTORY").as_deref().and_then(first_of) {
        return Ok(folder);
    }
    let user = Xdg::new().map_err(|error| format!("where is the data folder? Give --data DIR: {error}"))?;
    let state = user.state_dir().unwrap_or_else(|| user.data_dir());
    Ok(state.join("leveret"))
}

/// The first of those that systemd lists with colons between them.
fn first_of(folders: &OsStr) -> Option<PathBuf> {
    let first = env::split_paths(folders).next()?;
    Some(first).filter(|folder| folder.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_managers_first_folder_is_taken() {
        let check = |folders: &str, wanted: Option<&str>| {
            assert_eq!(first_of(OsStr::new(folders)), wanted.map(PathBuf::from), "{folders}");
        };
        check("/var/lib/leveret", Some("/var/lib/leveret"));
        check("/var/lib/leveret:/var/lib/other", Some("/var/lib/leveret"));
        check("", None);
        check("leveret", None);
    }

    #[test]
    fn there_is_a_default() {
        let folder = default_folder().expect("whoever tests has a home or a service manager");
        assert!(folder.is_absolute(), "{}", folder.display());
    }
}
