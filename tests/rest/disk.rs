//! A disk with too little free space: publishes are refused early, everything that was accepted goes on.

use serde_json::{Value, json};

use crate::relay::{Relay, text};

fn order(server: &str) -> Value {
    json!({"commands": [{"server": server, "command": "say hello"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_publishes_are_refused_and_results_are_stored() {
    let relay = Relay::start();
    let (server, token) = relay.server("survival").await;
    let accepted = relay.admin().publish("first", &order(&server)).await.expect(201);
    let id = text(&accepted["commands"][0]["id"]);

    // No disk has so much.
    let relay = relay.restart_with(|settings| settings.disk_reserve = u64::MAX / 2).await;
    let (admin, plugin) = (relay.admin(), relay.with(&token));
    for answer in
        [admin.publish("second", &order(&server)).await, admin.post("/v1/orders", order(&server)).await]
    {
        assert_eq!(answer.headers["retry-after"], "5");
        answer.refused(503, "storage_unavailable");
    }
    assert_eq!(admin.publish("first", &order(&server)).await.expect(200), accepted, "a replay takes no room");
    assert_eq!(admin.get("/readyz").await.expect(200)["orders"], "refused");
    let metrics = admin.get("/metrics").await.text;
    assert!(metrics.contains("fluxrelay_disk_low 1\n"), "{metrics}");
    assert!(metrics.contains("fluxrelay_limited_total{limit=\"disk_reserve_mib\"} 2\n"), "{metrics}");
    assert!(!metrics.contains("fluxrelay_disk_free_bytes 0\n"), "{metrics}");
    assert_eq!(plugin.poll(1).await[0]["id"], id.as_str());
    assert_eq!(plugin.report(json!({"id": id, "status": "completed"})).await, 1);

    let relay = relay.restart().await;
    let admin = relay.admin();
    admin.see(&id, "completed").await;
    assert_eq!(admin.get("/readyz").await.expect(200)["orders"], "accepted");
    admin.publish("second", &order(&server)).await.expect(201);
}
