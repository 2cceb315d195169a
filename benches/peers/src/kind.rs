//! The systems that can be compared: their names, what they come with, and what they promise.

use clap::ValueEnum;

/// One of the systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Fluxrelay,
    Redis,
    Postgres,
    Nats,
    Beanstalkd,
    Bare,
}

impl Kind {
    /// As it is written on the command line and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Fluxrelay => "fluxrelay",
            Kind::Redis => "redis",
            Kind::Postgres => "postgres",
            Kind::Nats => "nats",
            Kind::Beanstalkd => "beanstalkd",
            Kind::Bare => "bare",
        }
    }

    /// What it runs, and what an acknowledgement is worth there: one honest line.
    pub(crate) fn promise(self) -> &'static str {
        match self {
            Kind::Fluxrelay => {
                "a publish is answered after its fsync, a consumer's result is confirmed after its fsync; idempotency key for each order"
            }
            Kind::Redis => {
                "streams, appendonly, appendfsync always: XADD and XACK are answered after the fsync; no idempotency key, retries of a failed command are left to its user"
            }
            Kind::Nats => {
                "JetStream, file storage: a publish is answered before its fsync, which comes later in the background (Debian's 2.9 cannot be told otherwise), so a loss of power loses what was acknowledged; a consumer's acknowledgement is not confirmed, and counts when it is sent"
            }
            Kind::Beanstalkd => {
                "-f0: put and delete are answered after an fsync each, whose failure it does not notice; no idempotency key"
            }
            Kind::Bare => {
                "no broker: a process that hands each command from the publisher's socket to its server's, and keeps nothing. An answered publish is worth nothing and a consumer acknowledges nothing: the bound of this machine's sockets"
            }
            Kind::Postgres => {
                "behind a gateway that batches, synchronous_commit: INSERT and DELETE are answered after the fsync of their transaction; the consumers live in the gateway, so 1,000 connections are spared: an upper bound"
            }
        }
    }

    /// The Debian package that it comes with, if it does not come with this program.
    pub(crate) fn package(self) -> Option<&'static str> {
        match self {
            Kind::Fluxrelay | Kind::Bare => None,
            Kind::Redis => Some("redis-server"),
            Kind::Postgres => Some("postgresql"),
            Kind::Nats => Some("nats-server"),
            Kind::Beanstalkd => Some("beanstalkd"),
        }
    }
}
