//! Where a login comes from: the network of an address, and how much time is left.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A part of the address space that one party usually has: an IPv4 /24 or an IPv6 /56.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(u64);

/// Set in the numbers of IPv4 networks; those of IPv6 networks have 56 bits.
const IPV4: u64 = 1 << 63;

impl Network {
    /// The network of an address. An IPv4 address that is mapped into IPv6 counts as what it is.
    pub const fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network(IPV4 | (address.to_bits() >> 8) as u64),
            IpAddr::V6(address) => Network((address.to_bits() >> 72) as u64),
        }
    }

    /// Its number.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// Where a login comes from, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Whose failed logins are counted together.
    pub network: Network,
    /// A login that cannot be decided in this time is sent away; the broker's own bound on it holds too.
    pub within: Duration,
}

impl Origin {
    /// A peer, with the broker's own bound on the time.
    pub fn of(peer: SocketAddr) -> Origin {
        Origin { network: Network::of(peer.ip()), within: Duration::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn a_network_is_a_24_or_a_56() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.255"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.9"), "mapped");
        assert_eq!(network("2001:db8:1:2ff::1"), network("2001:db8:1:200:ffff::"));
        assert_ne!(network("2001:db8:1:2ff::1"), network("2001:db8:1:300::1"));
        assert_ne!(network("::"), network("0.0.0.0"));
        assert_ne!(network("::1"), network("127.0.0.1"));
    }
}
