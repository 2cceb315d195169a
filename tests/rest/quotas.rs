//! What a key, a server and a store may take: one that is over its share is refused, and the others go on.

use std::time::Duration;

use fluxrelay::broker::QuotaSettings;
use serde_json::{Value, json};

use crate::relay::{Answer, Relay, text};

/// An order of so many commands that wait.
fn order(server: &str, count: usize) -> Value {
    let command = json!({"server": server, "command": "say hello", "delay_seconds": 3600});
    json!({"commands": vec![command; count]})
}

/// Checks a refusal and when it says to come back, in seconds.
fn limited(answer: Answer, code: &str) -> u64 {
    let seconds = answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    answer.refused(429, code);
    seconds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_over_its_rate_is_refused_and_no_other_is() {
    let relay = Relay::start_with(QuotaSettings { key_requests: 2, ..QuotaSettings::default() });
    let (_, _, publish, read) = crate::store(&relay, "first").await;
    let (_, _, other, _) = crate::store(&relay, "second").await;
    let mut refused = 0;
    for _ in 0..100 {
        let answer = relay.with(&publish).get("/v1/servers").await;
        if answer.status == 429 {
            assert_eq!(limited(answer, "rate_limited"), 1);
            refused += 1;
        }
    }
    assert!(refused >= 80, "two a second and a burst of four: {refused} of 100 refused");
    relay.with(&read).get("/v1/servers").await.expect(200);
    relay.with(&other).get("/v1/servers").await.expect(200);
    for _ in 0..50 {
        relay.admin().get("/v1/servers").await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_over_its_rate_is_refused_and_no_other_is() {
    let relay = Relay::start_with(QuotaSettings { server_calls: 2, ..QuotaSettings::default() });
    let (_, greedy) = relay.server("greedy").await;
    let (_, token) = relay.server("other").await;
    let mut refused = 0;
    for _ in 0..100 {
        let answer = relay.with(&greedy).get("/v1/plugin/commands").await;
        if answer.status == 429 {
            limited(answer, "rate_limited");
            refused += 1;
        }
    }
    assert!(refused >= 80, "{refused} of 100 refused");
    relay.with(&token).get("/v1/plugin/commands").await.expect(200);
    let unknown = json!({"results": [{"id": "cmd_9_9", "status": "completed"}]});
    relay.with(&token).post("/v1/plugin/results", unknown).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_its_rate_of_commands_is_refused_and_no_other_is() {
    // The largest order always fits into a rested store; then one command a second comes back.
    let relay = Relay::start_with(QuotaSettings { store_commands: 1, ..QuotaSettings::default() });
    let (_, server, publish, _) = crate::store(&relay, "first").await;
    let (_, other_server, other, _) = crate::store(&relay, "second").await;
    let shop = relay.with(&publish);
    shop.publish("large", &order(&server, 10_000)).await.expect(201);
    let wait = limited(shop.post("/v1/orders", order(&server, 5_000)).await, "rate_limited");
    assert!((4_900..=5_000).contains(&wait), "{wait}");
    for _ in 0..20 {
        relay.with(&other).post("/v1/orders", order(&other_server, 100)).await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_refused_until_commands_end_and_no_other_is() {
    let relay = Relay::start_with(QuotaSettings { store_live_max: 3, ..QuotaSettings::default() });
    let (_, server, publish, _) = crate::store(&relay, "first").await;
    let (_, other_server, other, _) = crate::store(&relay, "second").await;
    let shop = relay.with(&publish);
    let accepted = shop.publish("first", &order(&server, 2)).await.expect(201);
    limited(shop.post("/v1/orders", order(&server, 2)).await, "queue_full");
    shop.post("/v1/orders", order(&server, 1)).await.expect(201);
    assert_eq!(limited(shop.post("/v1/orders", order(&server, 1)).await, "queue_full"), 1);
    assert_eq!(
        shop.publish("first", &order(&server, 2)).await.expect(200),
        accepted,
        "a replay takes no room"
    );
    relay.with(&other).post("/v1/orders", order(&other_server, 3)).await.expect(201);

    let id = text(&accepted["commands"][0]["id"]);
    shop.post(&format!("/v1/commands/{id}/cancel"), json!({})).await.expect(200);
    let freed = async {
        while shop.post("/v1/orders", order(&server, 1)).await.status != 201 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), freed).await.expect("room comes back");
    limited(shop.post("/v1/orders", order(&server, 1)).await, "queue_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_is_no_limit() {
    let off = QuotaSettings { key_requests: 0, server_calls: 0, store_commands: 0, store_live_max: 0 };
    let relay = Relay::start_with(off);
    let (_, server, publish, _) = crate::store(&relay, "first").await;
    for _ in 0..20 {
        relay.with(&publish).post("/v1/orders", order(&server, 1000)).await.expect(201);
    }
}
