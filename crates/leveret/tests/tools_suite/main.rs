//! The two programs as a user runs them: processes, pipes, signals and exit codes, against a broker.
//!
//! The broker is one in this process, or the one at `LEVERET_TEST_AMQP_URL` (such as a RabbitMQ), so that
//! the same tests say that the tools work with both. Each test has an exchange of its own.

mod bus;
mod lines;
mod proxy;
mod pty;
mod tool;

mod data_folder;
mod embedded;
mod ending;
mod outages;
mod output;
mod routing;
mod store;
mod straight;
