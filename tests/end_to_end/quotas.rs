//! What a store may publish over connections: one that is over its share is refused in its answers, and keeps its
//! connection; the others go on. Likewise everybody while the disk has too little space.

use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::broker::{Actor, QuotaSettings, Scope};
use fluxrelay::client::{Code, Order, OrderCommand, PublishError, Servers};
use fluxrelay::ids::StoreId;
use fluxrelay::protocol::{OrderHead, PublishCommand, Response, encode_publish};
use fluxrelay::transport::TransportSettings;
use tokio_tungstenite::tungstenite::Message;

use crate::raw::Raw;
use crate::relay::Relay;

async fn start(quotas: QuotaSettings) -> Relay {
    Relay::start_changed(TransportSettings::default(), |broker| broker.quotas = quotas).await
}

/// A publisher of a store of its own, and its server.
async fn store(relay: &Relay, name: &str) -> (Raw, u32) {
    let registry = relay.handle().registry().by(Actor::LOCAL);
    let store: StoreId = registry.create_store(name).await.unwrap().id;
    let (server, _) = registry.create_server(store, "lobby", "").await.unwrap();
    relay.handle().server_added(server.id, store).await.unwrap();
    let (_, key) = registry.create_key(store, Scope::Publish, "shop").await.unwrap();
    (Raw::publisher(relay, key.reveal()).await, server.id.0)
}

/// Publishes so many commands: `None` = accepted, else the code and when to come back.
async fn publish((raw, server): &mut (Raw, u32), count: usize) -> Option<(Code, u32)> {
    let mut frames = BytesMut::new();
    let command =
        PublishCommand { server: *server, text: "say hi", delay_ms: Some(3_600_000), ..Default::default() };
    encode_publish(&mut frames, 1, &OrderHead::default(), std::iter::repeat_n(command, count)).unwrap();
    raw.send_message(Message::Binary(frames.freeze())).await;
    match raw.next().await.get() {
        Response::Published { .. } => None,
        Response::Refused { code, retry_after_ms, .. } => {
            Some((Code::from_number(code).unwrap(), retry_after_ms))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_its_rate_is_refused_and_no_other_is() {
    let relay = start(QuotaSettings { store_commands: 1, ..QuotaSettings::default() }).await;
    let (mut greedy, mut other) = (store(&relay, "greedy").await, store(&relay, "other").await);
    assert_eq!(publish(&mut greedy, 10_000).await, None);
    for _ in 0..3 {
        let (code, wait) = publish(&mut greedy, 5_000).await.unwrap();
        assert_eq!(code, Code::RateLimited);
        assert!((4_900_000..=5_000_000).contains(&wait), "{wait}");
    }
    for _ in 0..20 {
        assert_eq!(publish(&mut other, 100).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_refused_and_no_other_is() {
    let relay = start(QuotaSettings { store_live_max: 3, ..QuotaSettings::default() }).await;
    let (mut full, mut other) = (store(&relay, "full").await, store(&relay, "other").await);
    assert_eq!(publish(&mut full, 3).await, None);
    assert_eq!(publish(&mut full, 1).await, Some((Code::QueueFull, 1_000)));
    assert_eq!(publish(&mut other, 3).await, None);
    assert_eq!(publish(&mut full, 1).await, Some((Code::QueueFull, 1_000)), "its connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_too_little_space_is_a_refusal_for_raw_peers_and_for_the_client() {
    // No disk has so much.
    let low = |broker: &mut fluxrelay::broker::Settings| broker.disk_reserve = u64::MAX / 2;
    let relay = Relay::start_changed(TransportSettings::default(), low).await;
    let mut raw = store(&relay, "shop").await;
    for _ in 0..2 {
        assert_eq!(publish(&mut raw, 1).await, Some((Code::StorageUnavailable, 5_000)));
    }
    let server = relay.server("lobby").await;
    let client = relay.publisher().await;
    let commands = vec![OrderCommand::new(Servers::One(server.id), "say hi")];
    match client.publish(Order { commands, ..Order::default() }).await {
        Err(PublishError::Refused { code: Code::StorageUnavailable, retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(5)));
        }
        other => panic!("{other:?}"),
    }
}
