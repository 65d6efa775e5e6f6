//! Every class and method of the protocol, answered as RabbitMQ 3.10 answers it.
//!
//! Each test talks to a broker of its own over a socket, by a client that knows only frames. With
//! `AMQP_PEER=host:port` the same tests talk to that broker instead: where it is a RabbitMQ 3.10,
//! they show that what is expected here is true. Tests of what only leveret does, or of what
//! takes a broker that is set up in some way, then say on stderr that they are skipped, and why.
//! With `AMQP_DATA=1` the brokers have data folders, and nothing is to be different for that.

mod support;

mod alarm;
mod compatibility;
mod consumers;
mod delays;
mod differential;
mod endings;
mod errors;
mod exchange_types;
mod exchanges;
mod frames;
mod handshake;
mod heartbeats;
mod lives;
mod misc;
mod permissions;
mod policies;
mod publish;
mod queues;
mod replies;
mod routing;
mod settle;
mod streams;
mod trace;
mod transactions;
