//! Server-Sent Events as a follower reads them.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Method;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::relay::{Caller, Relay, text};

/// One event.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    id: String,
    name: String,
    data: Value,
}

/// A stream that is read event by event.
struct Follower {
    stream: BodyDataStream,
    text: String,
}

impl Follower {
    async fn open(relay: &Relay, caller: &Caller<'_>, query: &str, last_event_id: Option<&str>) -> Follower {
        let mut request = caller.request(Method::GET, &format!("/v1/events{query}"));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = relay.open(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Follower { stream: response.into_body().into_data_stream(), text: String::new() }
    }

    async fn next(&mut self) -> Seen {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    line.unwrap_or_default().trim().to_owned()
                };
                let data = serde_json::from_str(&field("data")).unwrap_or(Value::Null);
                let seen = Seen { id: field("id"), name: field("event"), data };
                self.text = rest.to_owned();
                return seen;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.stream.next()).await;
            let chunk = chunk.expect("an event comes").expect("the stream goes on").expect("it is whole");
            self.text.push_str(std::str::from_utf8(&chunk).expect("events are text"));
        }
    }

    /// The next event with this name.
    async fn until(&mut self, name: &str) -> Seen {
        loop {
            let seen = self.next().await;
            if seen.name == name {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_and_resumed() {
    let relay = Relay::start();
    let (server, token) = relay.server("survival").await;
    let (admin, plugin) = (relay.admin(), relay.with(&token));
    let mut follower = Follower::open(&relay, &admin, "", None).await;
    let order = json!({"commands": [{"server": server, "command": "say hello"}]});
    let accepted = admin.post("/v1/orders", order).await.expect(201);
    let id = text(&accepted["commands"][0]["id"]);
    plugin.poll(1).await;
    plugin.report(json!({"id": id, "status": "completed"})).await;

    let delivered = follower.until("command.delivered").await;
    assert_eq!(delivered.data["command"], id.as_str());
    let completed = follower.until("command.completed").await;
    assert_eq!(completed.data["order"], accepted["id"]);
    assert_eq!(completed.data["server"], server.as_str());

    let mut resumed = Follower::open(&relay, &admin, "", Some(&delivered.id)).await;
    assert_eq!(resumed.until("command.completed").await, completed);
    let query = format!("?last_event_id={}", delivered.id);
    let mut by_query = Follower::open(&relay, &admin, &query, None).await;
    assert_eq!(by_query.until("command.completed").await, completed);
    let mut of_another_run = Follower::open(&relay, &admin, "", Some("4000000000-1")).await;
    assert_eq!(of_another_run.next().await.name, "events.lost");
    let bad = admin.request(Method::GET, "/v1/events?last_event_id=yesterday").body(Body::empty()).unwrap();
    assert_eq!(admin.send(bad).await.refused(422, "invalid_field")["field"], "last_event_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_the_broker_stops() {
    let relay = Relay::start();
    let mut follower = Follower::open(&relay, &relay.admin(), "", None).await;
    relay.go_away();
    let end = tokio::time::timeout(Duration::from_secs(20), follower.stream.next()).await;
    assert!(end.expect("the end comes").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_its_own_store_alone() {
    let relay = Relay::start();
    let (_, of_first, first_key, first_eyes) = crate::store(&relay, "first").await;
    let (_, of_second, second_key, _) = crate::store(&relay, "second").await;
    let mut follower = Follower::open(&relay, &relay.with(&first_eyes), "", None).await;
    for (server, key) in [(&of_second, &second_key), (&of_first, &first_key)] {
        let order = json!({"commands": [
            {"server": server, "command": "say late", "expires_at": "2020-01-01T00:00:00Z"}]});
        let accepted = relay.with(key).post("/v1/orders", order).await.expect(201);
        relay.admin().see(&text(&accepted["commands"][0]["id"]), "expired").await;
    }
    let expired = follower.until("command.expired").await;
    assert_eq!(expired.data["server"], of_first.as_str());
    relay.stranger().get("/v1/events").await.refused(401, "invalid_credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_store_are_bounded() {
    let relay = Relay::start();
    let (_, _, _, eyes) = crate::store(&relay, "watched").await;
    let caller = relay.with(&eyes);
    let mut followers = Vec::new();
    for _ in 0..64 {
        followers.push(Follower::open(&relay, &caller, "", None).await);
    }
    let answer = caller.get("/v1/events").await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.refused(429, "rate_limited");
    followers.pop();
    Follower::open(&relay, &caller, "", None).await;
}
