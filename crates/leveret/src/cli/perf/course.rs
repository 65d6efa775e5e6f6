//! The course of a run: get ready, start, show the rates, stop, wait for what is on its way, close.
//!
//! Gives the workers their orders, in step, and watches the clock and the signals.
//! Invariant: an order is given when all workers have carried out the one before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::{
    check::Findings,
    crew::{Crew, Kind, deal},
    fault::Fault,
    outcome::{Broker, Ending, Outcome, Setup, Time},
    plan::Plan,
    process::Process,
    scene::Scene,
    stamp::Clock,
    tally::{Counts, Latency},
    topology::{Declarer, Took},
    worker::{Handle, Leavings, Order, Report, Worker},
};
use crate::cli::{Failure, stop::Stop};

/// How long those who are left may take to answer for a mark.
const MARK_TIME_MAX: Duration = Duration::from_secs(2);
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) struct Course<'a> {
    pub(super) plan: Arc<Plan>,
    pub(super) stop: Stop,
    pub(super) crew: Vec<Member>,
    pub(super) reports: UnboundedReceiver<Report>,
    process: Option<Process>,
    /// Messages that lay in the queues before.
    pub(super) ready: u64,
    setup: Setup,
    broker_name: String,
    broker: Broker,
    pub(super) live: Live<'a>,
    /// Workers all of whose messages are taken, and workers all of whose consumers have theirs.
    pub(super) have_published: usize,
    pub(super) have_consumed: usize,
    /// The number of messages consumed when it last changed, and when that was.
    pub(super) last_consumed: (u64, Instant),
}

/// Is told every second for how long which counts were made.
pub(super) type Live<'a> = &'a dyn Fn(Duration, Counts);

pub(super) struct Member {
    pub(super) kind: Kind,
    handle: Handle,
    thread: std::thread::JoinHandle<Leavings>,
}

/// The edge of the time that is measured.
pub(super) struct Edge {
    pub(super) at: Instant,
    pub(super) counts: Counts,
    processor: Duration,
}

/// Runs the plan.
pub(super) async fn run(plan: Plan, live: Live<'_>) -> Result<Outcome, Failure> {
    let stop = Stop::listen(true)?;
    let process = plan.broker_pid.map(|pid| Process { pid });
    let before_connections = usage(process)?;
    let plan = Arc::new(plan);
    let (to_course, reports) = unbounded_channel();
    let mut course = Course {
        plan: Arc::clone(&plan),
        stop,
        crew: Vec::new(),
        reports,
        process,
        ready: 0,
        setup: Setup::default(),
        broker_name: String::new(),
        broker: Broker { before_connections, ..Broker::default() },
        live,
        have_published: 0,
        have_consumed: 0,
        last_consumed: (0, Instant::now()),
    };
    let address = course.declare().await?;
    let clock = Clock::start();
    for crew in deal(&plan) {
        let scene = scene(&plan, clock);
        let Crew { kind, connections } = crew;
        let made = Worker::new(Arc::clone(&plan), address, connections, scene, to_course.clone());
        let system = |source| Failure::System { what: "start a thread", source };
        let (worker, handle) = made.map_err(system)?;
        let name = format!("perf-{kind:?}").to_lowercase();
        let thread = std::thread::Builder::new().name(name).spawn(|| worker.run()).map_err(system)?;
        course.crew.push(Member { kind, handle, thread });
    }
    drop(to_course);
    course.go().await
}

fn scene(plan: &Plan, clock: Clock) -> Scene {
    Scene {
        clock,
        now: clock.now(),
        login: plan.login.clone(),
        is_stamped: plan.is_stamped(),
        counts: Counts::default(),
        latency: Latency::new(),
        confirm_latency: Latency::new(),
        checks: Vec::new(),
        unanswered: 0,
    }
}

fn usage(process: Option<Process>) -> Result<super::process::Usage, Failure> {
    let usage = process.map(Process::usage).transpose();
    usage.map(Option::unwrap_or_default).map_err(|text| Failure::Usage(format!("--broker-pid: {text}")))
}

/// Work on a connection of its own, beside which signals are heard.
async fn beside<T: Send + 'static>(
    stop: &mut Stop,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Failure> {
    tokio::select! {
        done = tokio::task::spawn_blocking(work) => Ok(done.expect("it does not panic")?),
        () = stop.requested() => Err(interrupted()),
    }
}

fn interrupted() -> Failure {
    let source = std::io::ErrorKind::Interrupted.into();
    Failure::System { what: "begin the load: told to end before", source }
}

impl Course<'_> {
    /// Declares what is shared; the address that was connected to.
    async fn declare(&mut self) -> Result<std::net::SocketAddr, Failure> {
        let plan = Arc::clone(&self.plan);
        let (address, name, declared) = beside(&mut self.stop, move || {
            let mut declarer = Declarer::open(&plan)?;
            if let Some(exchange) = &plan.exchange {
                declarer.declare_exchange(exchange)?;
            }
            let declared = declarer.declare_queues(&plan.queues)?;
            let name = format!("{} {}", declarer.handshake.product, declarer.handshake.version);
            let address = declarer.address;
            declarer.close();
            Ok((address, name, declared))
        })
        .await?;
        (self.setup.queues, self.setup.bindings, self.ready) = declared;
        self.broker_name = name;
        Ok(address)
    }

    async fn go(mut self) -> Result<Outcome, Failure> {
        let connections = self.in_step(Order::Connect).await?;
        let opened = self.in_step(Order::Open).await?;
        let has_consumers = self.plan.consuming.consumers > 0;
        // Where nobody publishes, messages come as soon as somebody consumes.
        let mut began = self.begin().await?;
        let consumed = self.in_step(Order::Consume).await?;
        self.setup.connections = Took { count: self.connections(), time: connections };
        if has_consumers {
            let count = self.plan.consuming.consumers as u64;
            self.setup.consumers = Took { count, time: opened + consumed };
        }
        if self.plan.producing.producers > 0 {
            began = self.begin().await?;
            self.order(Order::Publish);
        }
        let ending = self.watch(&began).await;
        let ended = self.end(&ending).await;
        let missing = self.wind_up(&ending).await;
        let leavings = self.close().await;
        let mut outcome = self.outcome(&began, &ended, ending, missing);
        outcome.gather(leavings);
        Ok(outcome)
    }

    fn connections(&self) -> u64 {
        deal(&self.plan).iter().map(|crew| crew.connections.len() as u64).sum()
    }

    pub(super) fn order(&self, order: Order) {
        for member in &self.crew {
            // A worker that has ended has reported why.
            let _ = member.handle.orders.send(order);
            let _ = member.handle.waker.wake();
        }
    }

    /// Gives an order and waits until all have carried it out; how long that took.
    async fn in_step(&mut self, order: Order) -> Result<Duration, Failure> {
        let began = Instant::now();
        self.order(order);
        let mut done = 0;
        while done < self.crew.len() {
            tokio::select! {
                report = self.reports.recv() => match report {
                    Some(Report::Failed(fault)) => return Err(fault.into()),
                    Some(report) => done += usize::from(self.hear(&report) == Some(order)),
                    None => break,
                },
                () = self.stop.requested() => return Err(interrupted()),
            }
        }
        Ok(began.elapsed())
    }

    /// Remembers what is reported; the order that is carried out, if that is what it is.
    pub(super) fn hear(&mut self, report: &Report) -> Option<Order> {
        match report {
            Report::Done(order) => return Some(*order),
            Report::Published => self.have_published += 1,
            Report::Consumed => self.have_consumed += 1,
            Report::Failed(_) => {}
        }
        None
    }

    pub(super) fn counts(&self) -> Counts {
        self.crew.iter().map(|member| member.handle.counts.load()).fold(Counts::default(), Counts::plus)
    }

    fn edge(&self) -> Edge {
        let processor = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        Edge { at: Instant::now(), counts: self.counts(), processor }
    }

    async fn begin(&mut self) -> Result<Edge, Failure> {
        self.in_step(Order::Mark).await?;
        self.broker.began = usage(self.process)?;
        Ok(self.edge())
    }

    /// The end of the measured time.
    async fn end(&mut self, ending: &Ending) -> Edge {
        let has_consumers = self.plan.consuming.consumers > 0;
        if matches!(ending, Ending::Time | Ending::Interrupted) && !has_consumers {
            // What is published counts once the broker has taken it.
            self.order(Order::Stop);
            self.await_published().await;
        }
        let mut edge = self.edge();
        if *ending == Ending::Silence {
            edge.at = self.last_consumed.1;
        }
        // A broker that has gone has no usage; the failure is told anyway.
        self.broker.ended = usage(self.process).unwrap_or(self.broker.began);
        let _ = timeout(MARK_TIME_MAX, self.in_step(Order::Mark)).await;
        edge
    }

    /// Closes the connections, deletes what is to be deleted, and takes what the workers leave behind.
    async fn close(&mut self) -> Vec<(Kind, Leavings)> {
        self.order(Order::Close);
        let ended = async { while self.reports.recv().await.is_some() {} };
        let _ = timeout(CLOSE_TIME_MAX, ended).await;
        let crew = std::mem::take(&mut self.crew);
        let join = |member: Member| {
            // Without orders a worker ends, whether or not the broker said good-bye.
            drop(member.handle.orders);
            let _ = member.handle.waker.wake();
            (member.kind, member.thread.join().expect("a worker does not panic"))
        };
        let leavings = crew.into_iter().map(join).collect();
        if self.plan.deletes_queues {
            self.delete().await;
        }
        leavings
    }

    async fn delete(&mut self) {
        let plan = Arc::clone(&self.plan);
        let deleted = beside(&mut self.stop, move || {
            let mut declarer = Declarer::open(&plan)?;
            declarer.delete_queues(&plan.queues)?;
            declarer.close();
            Ok(())
        });
        if let Err(failure) = deleted.await {
            eprintln!(" [!] the queues could not be deleted: {failure}");
        }
    }

    fn outcome(&self, began: &Edge, ended: &Edge, ending: Ending, missing: Option<u64>) -> Outcome {
        let plan = &self.plan;
        Outcome {
            run: plan.run,
            broker_name: self.broker_name.clone(),
            ending,
            setup: self.setup,
            time: ended.at - began.at,
            counts: ended.counts.since(began.counts),
            copies: plan.consuming.copies,
            has_producers: plan.producing.producers > 0,
            has_consumers: plan.consuming.consumers > 0,
            asked_rate: plan.producing.rate.map(|rate| rate * f64::from(plan.producing.producers)),
            is_stamped: plan.is_stamped(),
            has_confirms: plan.producing.unconfirmed_max.is_some(),
            idle_connections: plan.idle_connections,
            own_processor: ended.processor - began.processor,
            broker: plan.broker_pid.map(|_| self.broker),
            producing: Time::default(),
            consuming: Time::default(),
            behind: 0,
            findings: Findings::default(),
            missing,
            latency: None,
            confirm_latency: None,
        }
    }
}
