//! A server and an order of a broker that runs in this process.

use fluxrelay::broker::{Actor, DEFAULT_STORE, OrderRequest, RequestedCommand, Running, Target};
use fluxrelay::engine::{NewCommand, OnDoubt};
use fluxrelay::ids::ServerId;

/// A new server of the default store; no two have one name.
pub(crate) async fn server(running: &Running, name: &str) -> ServerId {
    let handle = running.handle();
    let made = handle.registry().by(Actor::LOCAL).create_server(DEFAULT_STORE, name, "").await;
    let id = made.expect("it is made").0.id;
    handle.server_added(id, DEFAULT_STORE).await.expect("its shard learns of it");
    id
}

/// One command for one server.
pub(crate) fn order(server: ServerId, text: &str) -> OrderRequest {
    let command = NewCommand {
        server: ServerId(0),
        text: text.into(),
        player: None,
        require_online: false,
        not_before: None,
        expires_at: None,
        on_doubt: OnDoubt::Hold,
        labels: None,
    };
    let commands = vec![RequestedCommand { target: Target::One(server), delay: None, command }];
    OrderRequest { key: None, reference: None, player: None, ordered: false, commands }
}
