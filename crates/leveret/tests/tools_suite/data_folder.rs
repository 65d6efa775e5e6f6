//! The data folder: where it is by default, and that no two brokers ever share one.

use std::path::Path;

use leveret::{Broker, StartError};
use rustix::process::Signal;

use crate::tool::{Running, Tool};

fn serve() -> Tool {
    Tool::new("serve").args(["--listen", "127.0.0.1:0"])
}

fn started(tool: Tool, folder: &Path) -> Running {
    let mut running = tool.start();
    running.wait_for(&format!("the data folder is {}", folder.display()));
    running
}

#[test]
fn two_servers_never_share_a_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let mut first = started(serve().arg("--data").arg(&folder), &folder);
    let second = serve().arg("--data").arg(&folder).start().end().expect_code(13);
    let holder = format!("{} is in use by another broker, process {}", folder.display(), first.pid());
    second.said(&holder);
    first.signal(Signal::KILL);
    first.end();
    // Whoever died holds nothing.
    started(serve().arg("--data").arg(&folder), &folder).interrupt().expect_code(0);
}

#[test]
fn the_default_is_by_the_platforms_conventions() {
    let home = tempfile::tempdir().unwrap();
    let at = |below: &str| home.path().join(below);
    let check = |set: &[(&str, &str)], wanted: &str| {
        let clean = serve().without("STATE_DIRECTORY").without("XDG_STATE_HOME");
        let clean = clean.env("HOME", home.path().to_str().unwrap());
        let tool = set.iter().fold(clean, |tool, (name, below)| tool.env(name, at(below).to_str().unwrap()));
        started(tool, &at(wanted)).interrupt().expect_code(0);
    };
    check(&[], ".local/state/leveret");
    check(&[("XDG_STATE_HOME", "state")], "state/leveret");
    check(&[("XDG_STATE_HOME", "state"), ("STATE_DIRECTORY", "service")], "service");
}

#[tokio::test]
async fn an_embedded_broker_gives_its_folder_back() {
    let folder = tempfile::tempdir().unwrap();
    let builder = || Broker::builder().data(folder.path());
    let first = builder().start().await.unwrap();
    let Err(refused) = builder().start().await else { panic!("two brokers have one folder") };
    assert!(matches!(refused, StartError::DataFolder(_)), "{refused}");
    first.shutdown().await;
    builder().start().await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_broker_that_was_told_of_no_folder_has_none() {
    let broker = Broker::builder().start().await.unwrap();
    assert_eq!(broker.data_folder(), None);
}
