//! What is in a data folder, for people and for programs.
//!
//! Invariant: names are shown so that they do nothing to a terminal.

use std::path::Path;

use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table, presets};
use leveret::data_folder::{Checked, Damage, QueueReport};
use serde_json::json;

use crate::cli::harmless;

const COUNT_COLUMNS: std::ops::Range<usize> = 2..5;

pub(super) fn text(folder: &Path, checked: &Checked) -> String {
    let Checked { report, holder } = checked;
    let mut text = match holder {
        Some(pid) => format!("{}, in use by process {pid}\n", folder.display()),
        None => format!("{}\n", folder.display()),
    };
    text.push_str(&format!(
        "{}, {}, {}; snapshot {} and {} of the journal behind it\n",
        count(report.queues.len(), "queue"),
        count(report.exchanges, "exchange"),
        count(report.bindings, "binding"),
        report.snapshot_number,
        count(report.segments, "segment"),
    ));
    if !report.queues.is_empty() {
        text.push_str(&format!("{}\n", table(&report.queues)));
    }
    for line in damage_lines(&report.damage) {
        text.push_str(&line);
        text.push('\n');
    }
    if report.damage == Damage::default() {
        text.push_str("nothing is damaged\n");
    }
    text
}

fn table(queues: &[QueueReport]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["VHOST", "QUEUE", "MESSAGES", "BODIES", "LOST"]);
    for queue in queues {
        table.add_row([
            harmless::text(&queue.vhost),
            harmless::text(&queue.name),
            queue.messages.count.to_string(),
            ByteSize::b(queue.messages.body_octets).display().iec().to_string(),
            queue.lost.to_string(),
        ]);
    }
    for column in COUNT_COLUMNS {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// What is damaged, a line each.
pub(super) fn damage_lines(damage: &Damage) -> Vec<String> {
    let mut lines = Vec::new();
    let lost: u64 = damage.lost.values().sum();
    if lost > 0 {
        lines.push(format!("damaged: {lost} messages of {} are lost", count(damage.lost.len(), "queue")));
    }
    for (file, octets) in &damage.files {
        lines.push(match octets {
            0 => format!("damaged: the header of {file}, or a copy of it"),
            octets => format!("damaged: {octets} octets of {file}"),
        });
    }
    if damage.no_snapshot {
        lines.push("damaged: no snapshot is whole; what was declared before the journal is lost".to_owned());
    }
    if damage.torn_octets > 0 {
        let octets = damage.torn_octets;
        lines.push(format!(
            "{octets} octets at the journal's end are not whole; nobody was told that they were there"
        ));
    }
    lines
}

pub(super) fn json(folder: &Path, checked: &Checked) -> String {
    let Checked { report, holder } = checked;
    let queues: Vec<_> = report.queues.iter().map(queue_json).collect();
    let files: Vec<_> =
        report.damage.files.iter().map(|(file, octets)| json!({ "file": file, "octets": octets })).collect();
    let object = json!({
        "folder": folder.to_string_lossy(),
        "in_use_by": holder,
        "whole": report.damage == Damage::default(),
        "queues": queues,
        "exchanges": report.exchanges,
        "bindings": report.bindings,
        "snapshot": report.snapshot_number,
        "segments": report.segments,
        "damaged_files": files,
        "torn_octets": report.damage.torn_octets,
        "no_snapshot": report.damage.no_snapshot,
    });
    format!("{object}\n")
}

fn queue_json(queue: &QueueReport) -> serde_json::Value {
    json!({
        "vhost": queue.vhost,
        "name": queue.name,
        "messages": queue.messages.count,
        "message_bytes": queue.messages.body_octets,
        "lost": queue.lost,
    })
}

fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
