//! Who works where: producers and consumers dealt out to threads, connections and channels.
//!
//! Invariant: the consumers of one queue are on one thread, so that one check sees all its messages.

use super::plan::Plan;

/// Who uses a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Producer(u16),
    /// With the queue that it consumes from, among those that are shared.
    Consumer {
        queue: Option<usize>,
    },
}

/// A connection that is to be opened, with those who share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionPlan {
    pub(super) seats: Vec<Seat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Producing,
    Consuming,
    Idle,
}

/// A thread's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crew {
    pub(super) kind: Kind,
    pub(super) connections: Vec<ConnectionPlan>,
}

/// Everybody's part; no thread without one.
pub(super) fn deal(plan: &Plan) -> Vec<Crew> {
    let producers = (0..plan.producing.producers).map(|number| (usize::from(number), Seat::Producer(number)));
    let consumers = (0..plan.consuming.consumers).map(|number| {
        let queue = plan.queue_of(number);
        (queue.unwrap_or(number), Seat::Consumer { queue })
    });
    let idle = Crew { kind: Kind::Idle, connections: vec![ConnectionPlan::default(); plan.idle_connections] };
    let mut crews = crews(plan, Kind::Producing, producers);
    crews.extend(self::crews(plan, Kind::Consuming, consumers));
    crews.push(idle);
    crews.retain(|crew| !crew.connections.is_empty());
    crews
}

/// Deals by the number that comes with each seat.
fn crews(plan: &Plan, kind: Kind, seats: impl Iterator<Item = (usize, Seat)>) -> Vec<Crew> {
    let mut by_thread = vec![Vec::new(); plan.threads];
    seats.for_each(|(number, seat)| by_thread[number % plan.threads].push(seat));
    let threads = by_thread.iter().filter(|seats| !seats.is_empty()).count();
    let in_turn = by_thread.into_iter().filter(|seats| !seats.is_empty()).enumerate();
    in_turn
        .map(|(index, seats)| {
            let share = |count: usize| (count / threads + usize::from(index < count % threads)).max(1);
            let connections = plan.connections.map_or(seats.len(), share).min(seats.len());
            Crew { kind, connections: spread(&seats, connections) }
        })
        .collect()
}

fn spread(seats: &[Seat], connections: usize) -> Vec<ConnectionPlan> {
    let mut plans = vec![ConnectionPlan::default(); connections];
    seats.iter().enumerate().for_each(|(number, seat)| plans[number % connections].seats.push(*seat));
    plans
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::PerfArgs;
    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: PerfArgs,
    }

    /// For each thread its kind and the seats of its connections.
    fn check(flags: &str, wanted: &[(Kind, &[usize])]) {
        let typed = std::iter::once("perf").chain(flags.split_whitespace());
        let plan = Plan::new(&Command::try_parse_from(typed).expect(flags).args, 1).expect(flags);
        let found: Vec<(Kind, Vec<usize>)> = deal(&plan)
            .iter()
            .map(|crew| (crew.kind, crew.connections.iter().map(|it| it.seats.len()).collect()))
            .collect();
        let wanted: Vec<_> = wanted.iter().map(|(kind, seats)| (*kind, seats.to_vec())).collect();
        assert_eq!(found, wanted, "{flags}");
    }

    #[test]
    fn everybody_has_a_place() {
        use Kind::{Consuming, Idle, Producing};
        check("", &[(Producing, &[1]), (Consuming, &[1])]);
        check("-x 3 -y 0 -u q", &[(Producing, &[1, 1, 1])]);
        check("-x 5 -y 4 --connections 2", &[(Producing, &[3, 2]), (Consuming, &[2, 2])]);
        check("-x 1 -y 3 --threads 2", &[(Producing, &[1]), (Consuming, &[1, 1]), (Consuming, &[1])]);
        check("-x 1 -y 3 --threads 2 -u q", &[(Producing, &[1]), (Consuming, &[1, 1, 1])]);
        check("-x 0 -y 0 --idle-connections 2", &[(Idle, &[0, 0])]);
        check(
            "-x 0 -y 4 -u q --threads 2 --queues 2 --connections 3",
            &[(Consuming, &[1, 1]), (Consuming, &[2])],
        );
    }
}
