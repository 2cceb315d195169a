//! The REST interface on a real broker: the whole contract, call by call, through the router.

#[path = "rest/audit.rs"]
mod audit;
#[path = "../fuzz/check_rest.rs"]
mod check_rest;
#[path = "../fuzz/corpus.rs"]
mod corpus;
#[path = "rest/disk.rs"]
mod disk;
#[path = "rest/document.rs"]
mod document;
#[path = "rest/events.rs"]
mod events;
#[path = "rest/keys.rs"]
mod keys;
#[path = "rest/quotas.rs"]
mod quotas;
#[path = "rest/relay.rs"]
mod relay;

use axum::body::Body;
use axum::http::Method;
use relay::{Relay, statuses, text};
use serde_json::{Value, json};

/// The main job: two servers, one order, a player who joins, a new token.
#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_an_order() {
    let relay = Relay::start();
    let (survival, survival_token) = relay.server("survival").await;
    let (creative, creative_token) = relay.server("creative").await;
    let (admin, plugin) = (relay.admin(), relay.with(&survival_token));
    let other_plugin = relay.with(&creative_token);
    other_plugin.post("/v1/plugin/players", json!({"online": ["Alex"]})).await.expect(200);

    let order = json!({
        "reference": "invoice 1042", "player": {"name": "Steve", "uuid": "8667ba71b85a4004af54457a9734eed7"},
        "commands": [
            {"server": survival, "command": "lp user Steve parent add vip", "stage": "initial", "metadata": {"pay": 9}},
            {"server": creative, "command": "say Steve is a VIP"},
            {"server": creative, "command": "give Steve diamond 64", "require_online": true}]});
    let accepted = admin.post("/v1/orders", order).await.expect(201);
    let ids: Vec<String> =
        accepted["commands"].as_array().unwrap().iter().map(|command| text(&command["id"])).collect();
    assert_eq!(ids.len(), 3);

    let due = plugin.poll(1).await;
    assert_eq!(due[0]["id"], ids[0].as_str());
    assert_eq!(due[0]["command"], "lp user Steve parent add vip");
    assert_eq!(due[0]["player"]["uuid"], "8667ba71-b85a-4004-af54-457a9734eed7");
    let result = json!({"id": ids[0], "status": "completed", "output": "Added Steve to vip"});
    assert_eq!(plugin.report(result.clone()).await, 1);
    assert_eq!(plugin.report(result).await, 0, "a result that is sent twice counts once");
    let command = admin.see(&ids[0], "completed").await;
    assert_eq!(statuses(&command), ["pending", "delivered", "completed"]);
    assert_eq!((&command["output"], &command["attempts"]), (&json!("Added Steve to vip"), &json!(1)));
    assert_eq!((&command["stage"], &command["metadata"]), (&json!("initial"), &json!({"pay": 9})));

    let due = other_plugin.poll(1).await;
    assert_eq!(due[0]["id"], ids[1].as_str(), "the diamonds wait for the player");
    assert_eq!(other_plugin.report(json!({"id": ids[1], "status": "completed", "attempt": 1})).await, 1);
    admin.see(&ids[2], "awaiting_player").await;
    let released = other_plugin.post("/v1/plugin/players", json!({"joined": [{"name": "STEVE"}]})).await;
    assert_eq!(released.expect(200)["released"], 1);
    assert_eq!(other_plugin.poll(1).await[0]["id"], ids[2].as_str());
    assert_eq!(other_plugin.report(json!({"id": ids[2], "status": "completed"})).await, 1);
    let command = admin.see(&ids[2], "completed").await;
    let expected = ["pending", "awaiting_player", "pending", "delivered", "completed"];
    assert_eq!(statuses(&command), expected);

    let order = admin.get(&format!("/v1/orders/{}", text(&accepted["id"]))).await.expect(200);
    assert_eq!(order["reference"], "invoice 1042");
    assert!(order["commands"].as_array().unwrap().iter().all(|command| command["status"] == "completed"));
    let server = admin.get(&format!("/v1/servers/{creative}")).await.expect(200);
    assert_eq!((&server["commands"]["completed"], &server["status"]), (&json!(2), &json!("online")));
    assert_eq!(server["players_online"], 2);

    let renewed = admin.post(&format!("/v1/servers/{survival}/token"), json!({})).await.expect(200);
    plugin.get("/v1/plugin/commands").await.refused(401, "invalid_credentials");
    relay.with(&text(&renewed["token"])).get("/v1/plugin/commands").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_then_kept_then_resent() {
    let relay = Relay::start();
    let (server, token) = relay.server("survival").await;
    let (admin, plugin) = (relay.admin(), relay.with(&token));
    let order = json!({"commands": [{"server": server, "command": "give Steve diamond 64"}]});
    let accepted = admin.post("/v1/orders", order).await.expect(201);
    let id = text(&accepted["commands"][0]["id"]);
    for attempt in 1..=4 {
        assert_eq!(plugin.poll(1).await[0]["attempt"], attempt);
        plugin.report(json!({"id": id, "status": "failed", "error": format!("no {attempt}")})).await;
    }
    let failed = admin.see(&id, "failed").await;
    assert_eq!((&failed["error"], &failed["attempts"]), (&json!("no 4"), &json!(4)));
    let last = failed["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["status"], &last["note"]), (&json!("failed"), &json!("retries_exhausted")));
    assert_eq!(statuses(&failed).iter().filter(|status| *status == "delivered").count(), 4);

    let resent = admin.post(&format!("/v1/commands/{id}/resend"), json!({})).await.expect(200);
    assert!(matches!(resent["status"].as_str(), Some("pending" | "delivered")));
    let again = plugin.poll(1).await;
    assert_eq!((&again[0]["id"], &again[0]["attempt"]), (&json!(id), &json!(5)));
    plugin.report(json!({"id": id, "status": "in_doubt", "error": "crashed"})).await;
    admin.see(&id, "in_doubt").await;

    let span = json!({"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "server": server});
    let bulk = admin.post("/v1/commands/resend", span.clone()).await.expect(200);
    let digest = blake3::hash(id.as_bytes()).to_hex()[..32].to_owned();
    assert_eq!(bulk, json!({"resent": 1, "ids_digest": digest}));
    assert_eq!(admin.post("/v1/commands/resend", span).await.expect(200)["resent"], 0);
    assert_eq!(plugin.poll(1).await[0]["id"], id.as_str());
    plugin.report(json!({"id": id, "status": "completed"})).await;
    admin.see(&id, "completed").await;
    admin.post(&format!("/v1/commands/{id}/resend"), json!({})).await.refused(409, "wrong_status");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_order_is_the_same_order_also_after_a_restart() {
    let mut relay = Relay::start();
    let (server, token) = relay.server("survival").await;
    let order = json!({"reference": "r", "commands": [
        {"server": server, "command": "say a", "delay_seconds": 1}, {"server": "*", "command": "say b"}]});
    let first = relay.admin().publish("invoice-1", &order).await.expect(201);
    relay.server("registered later").await;
    for _ in 0..2 {
        assert_eq!(relay.admin().publish("invoice-1", &order).await.expect(200), first);
        relay = relay.restart().await;
    }
    let mut other = order.clone();
    other["commands"][0]["command"] = json!("say c");
    relay.admin().publish("invoice-1", &other).await.refused(409, "key_conflict");
    relay.admin().publish("invoice-2", &other).await.expect(201);
    let page = relay.admin().get(&format!("/v1/servers/{server}/commands")).await.expect(200);
    assert_eq!(page["commands"].as_array().unwrap().len(), 4, "two orders of two commands");
    relay.with(&token).get("/v1/plugin/commands").await.expect(200);
    let refused = relay.admin().publish("two words", &order).await.refused(422, "invalid_field");
    assert_eq!(refused["field"], "Idempotency-Key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_order_is_answered_although_its_server_is_gone() {
    let relay = Relay::start();
    let (server, _) = relay.server("survival").await;
    let order = json!({"commands": [{"server": server, "command": "say a"}]});
    let first = relay.admin().publish("invoice-1", &order).await.expect(201);
    relay.admin().delete(&format!("/v1/servers/{server}")).await.expect(204);
    assert_eq!(relay.admin().publish("invoice-1", &order).await.expect(200), first);
    let mut other = order.clone();
    other["commands"][0]["command"] = json!("say b");
    relay.admin().publish("invoice-1", &other).await.refused(409, "key_conflict");
    relay.admin().publish("invoice-2", &order).await.refused(422, "unknown_server");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_all_or_nothing() {
    let relay = Relay::start();
    let admin = relay.admin();
    let everybody = json!({"commands": [{"server": "*", "command": "say hello"}]});
    admin.post("/v1/orders", everybody.clone()).await.refused(422, "unknown_server");
    let (server, _) = relay.server("survival").await;
    let unknown = json!({"commands": [
        {"server": server, "command": "say a"}, {"server": "srv_999", "command": "say b"}]});
    let refused = admin.post("/v1/orders", unknown).await.refused(422, "unknown_server");
    assert_eq!(refused["field"], "commands[1].server");
    let two_lines = json!({"commands": [
        {"server": server, "command": "say a"}, {"server": server, "command": "say a\nop Steve"}]});
    let refused = admin.post("/v1/orders", two_lines).await.refused(422, "invalid_command");
    assert_eq!(refused["field"], "commands[1].command");
    let page = admin.get(&format!("/v1/servers/{server}/commands")).await.expect(200);
    assert_eq!(page["commands"], json!([]));
    relay.server("creative").await;
    let accepted = admin.post("/v1/orders", everybody).await.expect(201);
    assert_eq!(accepted["commands"].as_array().unwrap().len(), 2);
}

/// Makes a store with a server and two keys: its id, its server, publish key and read key.
async fn store(relay: &Relay, name: &str) -> (String, String, String, String) {
    let admin = relay.admin();
    let id = text(&admin.post("/v1/stores", json!({"name": name})).await.expect(201)["id"]);
    let keys = format!("/v1/stores/{id}/keys");
    let publish = admin.post(&keys, json!({"scope": "publish", "name": "shop"})).await.expect(201);
    let read = admin.post(&keys, json!({"scope": "read", "name": "eyes"})).await.expect(201);
    let publish = text(&publish["key"]);
    let made = relay.with(&publish).post("/v1/servers", json!({"name": "survival"})).await.expect(201);
    assert_eq!(made["store"], id.as_str());
    (id, text(&made["id"]), publish, text(&read["key"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_its_store_and_does_what_its_scope_allows() {
    let relay = Relay::start();
    let (first, server, publish, read) = store(&relay, "first").await;
    let (second, _, other, _) = store(&relay, "second").await;
    let order = json!({"commands": [{"server": server, "command": "say hello"}]});
    let accepted = relay.with(&publish).post("/v1/orders", order.clone()).await.expect(201);
    let (order_id, command) = (text(&accepted["id"]), text(&accepted["commands"][0]["id"]));

    let reader = relay.with(&read);
    for path in ["orders", "commands", "servers"].iter().zip([&order_id, &command, &server]) {
        reader.get(&format!("/v1/{}/{}", path.0, path.1)).await.expect(200);
        relay.with(&other).get(&format!("/v1/{}/{}", path.0, path.1)).await.refused(404, "not_found");
        relay.admin().get(&format!("/v1/{}/{}", path.0, path.1)).await.expect(200);
    }
    reader.post("/v1/orders", order.clone()).await.refused(403, "forbidden");
    reader.post(&format!("/v1/commands/{command}/cancel"), json!({})).await.refused(403, "forbidden");
    reader.get("/v1/stores").await.refused(403, "forbidden");
    let other = relay.with(&other);
    other.post(&format!("/v1/commands/{command}/cancel"), json!({})).await.refused(404, "not_found");
    other.delete(&format!("/v1/servers/{server}")).await.refused(404, "not_found");
    other.post(&format!("/v1/servers/{server}/token"), json!({})).await.refused(404, "not_found");
    other.post("/v1/orders", order.clone()).await.refused(422, "unknown_server");
    let mut elsewhere = order.clone();
    elsewhere["store"] = json!(first);
    other.post("/v1/orders", elsewhere.clone()).await.refused(422, "invalid_field");
    relay.admin().post("/v1/orders", order).await.refused(422, "unknown_server");
    relay.admin().post("/v1/orders", elsewhere).await.expect(201);
    let listed = relay.admin().get(&format!("/v1/servers?store={second}")).await.expect(200);
    assert_eq!(listed["servers"].as_array().unwrap().len(), 1);
    assert_eq!(relay.admin().get("/v1/servers").await.expect(200)["servers"], json!([]));
    let stores = relay.admin().get("/v1/stores").await.expect(200);
    assert_eq!(stores["stores"].as_array().unwrap().len(), 3, "the default store and two more");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_valid_are_not_told_apart() {
    let relay = Relay::start();
    let (_, token) = relay.server("survival").await;
    let (_, _, publish, _) = store(&relay, "first").await;
    let mut wrong = publish.clone();
    let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
    wrong.push(last);
    let mut bodies = Vec::new();
    for caller in [
        relay.stranger(),
        relay.with(&wrong),
        relay.with("key_9999.uNk2E7w1bYQ0hYt8c5Zr4mPf6sXa9LdV"),
        relay.with("nonsense"),
        relay.with(&token),
    ] {
        let answer = caller.get("/v1/servers").await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"fluxrelay\"");
        bodies.push(answer.refused(401, "invalid_credentials"));
    }
    bodies.push(relay.with(&publish).get("/v1/plugin/commands").await.refused(401, "invalid_credentials"));
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:#?}");
    let in_url = relay.stranger().get(&format!("/v1/plugin/commands?token={token}")).await;
    assert!(!in_url.text.contains(&token));
    assert_eq!(in_url.refused(422, "invalid_field")["field"], "token");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let relay = Relay::start();
    let admin = relay.admin();
    let raw = |content_type: &'static str, body: String| {
        let request = admin.request(Method::POST, "/v1/servers").header("Content-Type", content_type);
        admin.send(request.body(Body::from(body)).unwrap())
    };
    raw("application/json", "{\"name\":".into()).await.refused(400, "invalid_body");
    raw("text/plain", "{\"name\":\"a\"}".into()).await.refused(415, "invalid_body");
    raw("application/json", " ".repeat((1 << 20) + 1)).await.refused(413, "body_too_large");
    let refused = raw("application/json", "{\"name\":\"a\",\"port\":1}".into()).await;
    assert_eq!(refused.refused(422, "invalid_field")["field"], "port");
    let refused = admin.post("/v1/servers", json!({"name": ""})).await.refused(422, "invalid_field");
    assert_eq!((&refused["field"], &refused["range"]), (&json!("name"), &json!("1 to 100 bytes")));
    admin.post("/v1/servers", json!({"name": "a"})).await.expect(201);
    admin.post("/v1/servers", json!({"name": "a"})).await.refused(409, "name_taken");
    admin.get("/v1/nothing").await.refused(404, "not_found");
    admin.get("/v1/servers/srv_0").await.refused(404, "not_found");
    let answer = admin.delete("/v1/orders").await;
    assert_eq!(answer.headers["allow"], "POST");
    answer.refused(405, "method_not_allowed");
    for query in ["limit=0", "limit=1001", "cursor=x", "status=done", "page=2"] {
        let refused = admin.get(&format!("/v1/servers/srv_1/commands?{query}")).await;
        refused.refused(422, "invalid_field");
    }
    let refused = admin.post("/v1/orders?store=sto_2", json!({})).await.refused(422, "invalid_field");
    assert_eq!(refused["field"], "store");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_paged_edited_and_cancelled() {
    let relay = Relay::start();
    let (server, token) = relay.server("survival").await;
    let (admin, plugin) = (relay.admin(), relay.with(&token));
    let commands: Vec<Value> = (0..5)
        .map(|n| json!({"server": server, "command": format!("say {n}"), "delay_seconds": 3600}))
        .collect();
    let accepted = admin.post("/v1/orders", json!({"commands": commands})).await.expect(201);
    let ids: Vec<String> =
        accepted["commands"].as_array().unwrap().iter().map(|command| text(&command["id"])).collect();
    let mut paged = Vec::new();
    let mut path = format!("/v1/servers/{server}/commands?limit=2&status=pending");
    loop {
        let page = admin.get(&path).await.expect(200);
        paged.extend(page["commands"].as_array().unwrap().iter().map(|command| text(&command["id"])));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/servers/{server}/commands?limit=2&status=pending&cursor={cursor}");
    }
    assert_eq!(paged, ids);

    let edited = admin.patch(&format!("/v1/commands/{}", ids[0]), json!({"command": "say edited"})).await;
    let edited = edited.expect(200);
    assert_eq!(edited["command"], "say edited");
    assert!(edited["next_attempt_at"].as_str().unwrap() > edited["accepted_at"].as_str().unwrap());
    let cancelled = admin.post(&format!("/v1/commands/{}/cancel", ids[0]), json!({})).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    let again = admin.post(&format!("/v1/commands/{}/cancel", ids[0]), json!({})).await;
    again.refused(409, "wrong_status");
    let late = admin.patch(&format!("/v1/commands/{}", ids[0]), json!({"command": "say no"})).await;
    late.refused(409, "wrong_status");
    assert_eq!(plugin.get("/v1/plugin/commands").await.expect(200)["commands"], json!([]));

    let expired = json!({"commands": [
        {"server": server, "command": "say late", "expires_at": "2020-01-01T00:00:00Z"}]});
    let accepted = admin.post("/v1/orders", expired).await.expect(201);
    admin.see(&text(&accepted["commands"][0]["id"]), "expired").await;
    admin.delete(&format!("/v1/servers/{server}")).await.expect(204);
    plugin.get("/v1/plugin/commands").await.refused(401, "invalid_credentials");
    let removed = admin.see(&ids[1], "cancelled").await;
    assert_eq!(removed["history"].as_array().unwrap().last().unwrap()["note"], "server_removed");
    admin.get(&format!("/v1/servers/{server}")).await.refused(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_is_open_to_everybody_and_tells_no_secret() {
    let relay = Relay::start();
    let (server, token) = relay.server("survival").await;
    let order = json!({"commands": [{"server": server, "command": "say hello"}]});
    relay.admin().post("/v1/orders", order.clone()).await.expect(201);
    let stranger = relay.stranger();
    stranger.get("/healthz").await.expect(200);
    stranger.get("/readyz").await.expect(200);
    assert!(stranger.get("/").await.text.contains("/openapi.json"));
    let metrics = stranger.get("/metrics").await;
    assert!(metrics.text.lines().any(|line| line == "fluxrelay_orders_accepted_total 1"), "{}", metrics.text);
    assert!(!metrics.text.contains(&token));
    relay.go_away();
    let answer = stranger.get("/readyz").await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.refused(503, "shutting_down");
    let answer = relay.admin().post("/v1/orders", order).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.refused(503, "shutting_down");
    stranger.get("/healthz").await.expect(200);
}

#[test]
fn whatever_bytes_a_call_has_its_answer_is_in_the_document() {
    corpus::replay("rest", check_rest::check_rest);
    corpus::replay("poll", check_rest::check_poll);
    check_rest::end();
}
