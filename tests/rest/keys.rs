//! API keys over REST: listed without secrets, removed for good.

use serde_json::{Value, json};

use crate::relay::{Relay, text};

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_page_by_page_and_removed() {
    let relay = Relay::start();
    let admin = relay.admin();
    let (store, _, publish, read) = crate::store(&relay, "shop").await;
    let (other, _, _, _) = crate::store(&relay, "other").await;
    let path = format!("/v1/stores/{store}/keys");
    let listed = admin.get(&path).await;
    for key in [&publish, &read] {
        let (_, secret) = key.split_once('.').expect("a credential");
        assert!(!listed.text.contains(secret));
    }
    let keys = listed.expect(200)["keys"].as_array().expect("a list").clone();
    let scopes: Vec<&Value> = keys.iter().map(|key| &key["scope"]).collect();
    assert_eq!(scopes, ["publish", "read"]);
    assert_eq!((&keys[0]["name"], &keys[0]["store"]), (&json!("shop"), &json!(store)));
    let first = admin.get(&format!("{path}?limit=1")).await.expect(200);
    assert_eq!(first["keys"], json!([keys[0]]));
    let second = format!("{path}?limit=1&cursor={}", text(&first["next_cursor"]));
    assert_eq!(admin.get(&second).await.expect(200), json!({"keys": [keys[1]], "next_cursor": null}));

    let key = format!("/v1/keys/{}", text(&keys[0]["id"]));
    let shop = relay.with(&publish);
    shop.get("/v1/servers").await.expect(200);
    shop.delete(&key).await.refused(403, "forbidden");
    admin.delete(&key).await.expect(204);
    shop.get("/v1/servers").await.refused(401, "invalid_credentials");
    admin.delete(&key).await.refused(404, "not_found");
    assert_eq!(admin.get(&path).await.expect(200)["keys"], json!([keys[1]]));
    relay.with(&read).get("/v1/servers").await.expect(200);
    let others = admin.get(&format!("/v1/stores/{other}/keys")).await.expect(200);
    assert_eq!(others["keys"].as_array().map(Vec::len), Some(2), "another store's are untouched");
    for missing in ["/v1/keys/key_0", "/v1/keys/admin", "/v1/keys/key_999"] {
        admin.delete(missing).await.refused(404, "not_found");
    }
    admin.get("/v1/stores/sto_999/keys").await.refused(404, "not_found");
    admin.get(&format!("{path}?cursor=3")).await.refused(422, "invalid_field");
}
