//! The load generator as a user runs it: a process against a broker in this one, or one that a test plays.
//!
//! The broker is one in this process, or the one at `LEVERET_TEST_AMQP_URL` (such as a RabbitMQ).

#[path = "../tools_suite/tool.rs"]
#[allow(dead_code, reason = "what the tools' own tests need more")]
mod tool;

mod ending;
mod flows;
mod perf;
mod refusals;
mod window;
