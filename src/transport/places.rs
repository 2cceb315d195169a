//! Places for connections, whatever they speak: so many of all, and so many of one network. Knows no socket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::TransportSettings;
use crate::broker::{Limit, Network};

/// All places. Cheap to clone.
#[derive(Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    all_max: u32,
    networks: Arc<Networks>,
}

/// A place that is taken, given back when dropped.
pub(super) struct Place {
    networks: Arc<Networks>,
    network: Network,
    _of_all: OwnedSemaphorePermit,
}

/// The networks that have connections: as many as there are places at most.
struct Networks {
    taken: Mutex<HashMap<Network, u32>>,
    each_max: u32,
}

impl Places {
    pub(super) fn new(settings: &TransportSettings) -> Places {
        let all_max = settings.connections_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let each_max = match settings.connections_per_network_max {
            0 => u32::MAX,
            max => u32::try_from(max).unwrap_or(u32::MAX),
        };
        let networks = Arc::new(Networks { taken: Mutex::default(), each_max });
        Places { all: Arc::new(Semaphore::new(all_max)), all_max: all_max as u32, networks }
    }

    /// A place for this peer, or the limit that keeps it out.
    pub(super) fn take(&self, peer: IpAddr) -> Result<Place, Limit> {
        let network = Network::of(peer);
        let of_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Limit::Connections)?;
        let mut taken = self.networks.taken.lock();
        let count = taken.entry(network).or_default();
        if *count >= self.networks.each_max {
            return Err(Limit::NetworkConnections);
        }
        *count += 1;
        drop(taken);
        Ok(Place { networks: Arc::clone(&self.networks), network, _of_all: of_all })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> u32 {
        self.all_max - u32::try_from(self.all.available_permits()).unwrap_or(self.all_max)
    }

    /// Returns once all are free.
    pub(super) async fn all_free(&self) {
        let _ = self.all.acquire_many(self.all_max).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.networks.taken.lock();
        let count = taken.get_mut(&self.network).expect("a network with a place is counted");
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all: usize, each: usize) -> Places {
        Places::new(&TransportSettings {
            connections_max: all,
            connections_per_network_max: each,
            ..TransportSettings::default()
        })
    }

    fn take(places: &Places, peer: &str) -> Result<Place, Limit> {
        places.take(peer.parse().unwrap())
    }

    #[test]
    fn a_network_has_its_share_and_no_more() {
        let places = places(5, 2);
        let mut first =
            vec![take(&places, "192.0.2.1").ok().unwrap(), take(&places, "192.0.2.255").ok().unwrap()];
        assert_eq!(take(&places, "::ffff:192.0.2.9").err(), Some(Limit::NetworkConnections));
        let _others = [
            take(&places, "192.0.3.1").ok().unwrap(),
            take(&places, "2001:db8:1:2ff::1").ok().unwrap(),
            take(&places, "2001:db8:1:2fe::1").ok().unwrap(),
        ];
        assert_eq!(take(&places, "192.0.4.1").err(), Some(Limit::Connections));
        first.pop();
        assert_eq!(take(&places, "2001:db8:1:200::1").err(), Some(Limit::NetworkConnections));
        first.push(take(&places, "192.0.2.7").ok().unwrap());
        assert_eq!(places.taken(), 5);
        drop(first);
        assert_eq!(places.taken(), 3, "refusals took nothing");
        assert_eq!(places.networks.taken.lock().len(), 2, "who is gone is forgotten");
    }

    #[test]
    fn zero_is_no_limit_of_a_network() {
        let places = places(300, 0);
        let all: Vec<Place> = (0..300).map(|_| take(&places, "192.0.2.1").ok().unwrap()).collect();
        assert_eq!(take(&places, "192.0.2.1").err(), Some(Limit::Connections));
        drop(all);
        assert!(places.networks.taken.lock().is_empty());
    }
}
