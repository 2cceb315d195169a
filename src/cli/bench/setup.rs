//! How a broker of the bench's own is set up.

use std::path::Path;

use super::broker::Broker;
use super::fleet::{self, Registered};
use super::sockets;
use crate::cli::exit::CliError;
use crate::credentials::HashCost;

/// A broker to be made, with its servers.
pub(super) struct Setup<'a> {
    /// Where its data directory is made.
    pub(super) data_in: Option<&'a Path>,
    pub(super) servers: u32,
    /// Connections of others, beside one for each server.
    pub(super) others: u32,
    /// Of the servers' tokens.
    pub(super) cost: HashCost,
    /// A certificate of its own, for TLS.
    pub(super) tls: bool,
    /// Settings that differ from the defaults, as environment variables.
    pub(super) environment: Vec<(&'static str, String)>,
}

impl Setup<'_> {
    /// Without TLS, with logins that cost next to nothing.
    pub(super) fn cheap(data_in: Option<&Path>, servers: u32) -> Setup<'_> {
        Setup { data_in, servers, others: 0, cost: HashCost::TINY, tls: false, environment: Vec::new() }
    }

    /// Starts it from this binary. Blocking calls are of no concern before the measurement.
    pub(super) fn start(&self, binary: &Path, quiet: bool) -> Result<(Broker, Vec<Registered>), CliError> {
        sockets::make_room(self.servers + self.others)?;
        let runtime = tokio::runtime::Handle::current();
        let prepare = |data: &Path| runtime.block_on(fleet::prepare(data, self.servers, self.cost, quiet));
        tokio::task::block_in_place(|| Broker::start(binary, self, prepare))
    }
}
