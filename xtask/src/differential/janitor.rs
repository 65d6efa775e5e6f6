//! Takes away what a script left on a broker.
//!
//! Knows which names a script can have declared; not what became of them.
//! Invariant: only names of that script's run are deleted.

use std::net::SocketAddr;

use anyhow::Result;
use leveret_wire::{
    ShortStr,
    method::{exchange, queue},
};

use super::{
    client::Client,
    names::Names,
    operation::{Operation, Script, Setup},
};

/// Deletes the script's queues and exchanges.
pub(super) fn clean(address: SocketAddr, script: &Script, names: &mut Names) -> Result<()> {
    let mut queues = names.made_queues();
    let mut exchanges = Vec::new();
    for step in &script.steps {
        match &step.operation {
            Operation::DeclareQueue { queue, .. } if queue.contains('~') => {
                queues.push(names.octets_of(queue));
            }
            Operation::DeclareExchange { exchange, .. } if exchange.contains('~') => {
                exchanges.push(names.octets_of(exchange));
            }
            _ => {}
        }
    }
    for all in [&mut queues, &mut exchanges] {
        all.sort_unstable();
        all.dedup();
    }
    let mut client = Client::open(address, &Setup { frame_max: 131_072, cancel_notify: false })?;
    for name in &exchanges {
        let exchange = ShortStr::new(&name[..name.len().min(255)]).unwrap_or_default();
        let delete = exchange::Delete { exchange, nowait: true, ..Default::default() };
        client.ensure(1, names);
        client.send_method(1, delete.into());
    }
    for name in &queues {
        let queue = ShortStr::new(&name[..name.len().min(255)]).unwrap_or_default();
        let delete = queue::Delete { queue, nowait: true, ..Default::default() };
        client.ensure(1, names);
        client.send_method(1, delete.into());
    }
    client.ensure(1, names);
    client.ask_quiet(1);
    client.settle(names);
    client.close(names);
    Ok(())
}
